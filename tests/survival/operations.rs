//! The operations that are cut short.

/// One operation on the volume `main` (Docker takes no name of one letter for one).
#[derive(Debug)]
pub(crate) struct Operation {
    /// What it is called in the table.
    pub(crate) name: &'static str,
    /// A shell script on the engine that makes what it needs; `$pool` is where the plugin has the
    /// image pool mounted.
    pub(crate) prepare: &'static str,
    /// What is done.
    pub(crate) act: Act,
    /// Its steps, in order.
    pub(crate) steps: &'static [&'static str],
    /// Those of them where something is still to be written, so that a full disk can be met.
    pub(crate) writes: &'static [&'static str],
    /// Whether it takes long, and is not played in every run.
    pub(crate) is_long: bool,
    /// Whether a server works on it, whose files change by themselves.
    pub(crate) is_served: bool,
}

impl Operation {
    /// Whether what asks for it only waits for what the plugin does by itself, again after a failure.
    pub(crate) fn is_by_itself(&self) -> bool {
        matches!(self.act, Act::Docker(["run", ..]))
    }
}

/// How an operation is asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Act {
    /// By a docker command.
    Docker(&'static [&'static str]),
    /// By a call of the plugin, which a docker command makes after much else.
    Call(&'static str, &'static str),
}

/// One that is asked for by a docker command, on files that nobody works on.
const PLAIN: Operation = Operation {
    name: "",
    prepare: "",
    act: Act::Docker(&[]),
    steps: &[],
    writes: &[],
    is_long: false,
    is_served: false,
};

/// A volume with something in each role.
const FILLED: &str = "docker volume create -d pgvol -o tablespaces=t main
    echo precious >$pool/main/data/file; echo precious >/var/lib/pgvol/wal/main/wal/file
    mkdir $pool/main/data/below; echo precious >$pool/main/data/below/file";

/// A volume that may hold so much.
const SIZED: &str = "docker volume create -d pgvol -o size=512M main
    echo precious >$pool/main/data/file";

/// The first in the trash.
const REMOVED: &str = "docker volume create -d pgvol -o tablespaces=t main
    echo precious >$pool/main/data/file; echo precious >/var/lib/pgvol/wal/main/wal/file
    mkdir $pool/main/data/below; echo precious >$pool/main/data/below/file
    docker volume rm main";

/// The same with somebody who has it.
const USED: &str = "docker volume create -d pgvol -o tablespaces=t main
    echo precious >$pool/main/data/file; echo precious >/var/lib/pgvol/wal/main/wal/file
    docker run -d --name user -v main:/pg base sleep infinity";

/// The first of them with a snapshot.
const SNAPSHOTTED: &str = "docker volume create -d pgvol -o tablespaces=t main
    echo precious >$pool/main/data/file; echo precious >/var/lib/pgvol/wal/main/wal/file
    docker pgvol snapshot create main@s";

/// The same, with other files since.
const CHANGED: &str = "docker volume create -d pgvol -o tablespaces=t main
    echo precious >$pool/main/data/file; echo precious >/var/lib/pgvol/wal/main/wal/file
    docker pgvol snapshot create main@s
    echo later >$pool/main/data/file; echo later >/var/lib/pgvol/wal/main/wal/file";

/// What makes the pool's image grow, once and by one step. (No byte of it is written or looked at.)
/// What was deleted before may still be on its way back.
const FILL: &str = "until fallocate -l 700M /pg/data/filler; do sleep 0.1; done
    until [ $(stat -f -c %b /pg) -gt 300000 ]; do sleep 0.1; done";

/// The same done, and deleted.
const FILLED_AND_CLEARED: &str = "docker volume create -d pgvol main
    echo precious >$pool/main/data/file
    timeout 60 sh -c \"until fallocate -l 700M $pool/main/data/filler; do sleep 0.1; done\"
    timeout 60 sh -c \"until [ \\$(stat -f -c %b $pool) -gt 300000 ]; do sleep 0.1; done\"
    rm $pool/main/data/filler; sync -f $pool
    timeout 60 sh -c \"until [ \\$(stat -f -c %a $pool) -gt 250000 ]; do sleep 0.1; done\"";

/// The steps of growing; a growth that the disk has no room for is tried again.
const GROWING: &[&str] =
    &["grow.file-extended", "grow.reserved", "grow.device-follows", "grow.file-system-follows"];
const SHRINKING: &[&str] = &["shrink.file-system-shrunk", "shrink.file-cut"];

/// The steps of a copy; those before the last take place before it is there.
const COPYING: &[&str] = &[
    "snapshot.recorded",
    "snapshot.data-captured",
    "snapshot.wal-held",
    "snapshot.wal-captured",
    "snapshot.whole",
    "snapshot.ready",
];
const COPIED: &[&str] = COPYING.split_at(5).0;

/// A cluster on which a server works.
const SERVED: &str = "docker volume create -d pgvol main
    tar -C $pool/main -xf /opt/cluster.tar data
    tar -C /var/lib/pgvol/wal/main -xf /opt/cluster.tar wal
    docker run -d --name user -v main:/pg -e PGDATA=/pg/data postgres:17
    until docker exec user pg_isready -q -h 127.0.0.1 -U postgres; do sleep 0.1; done";

/// A snapshot of a cluster, and a clone of that whose server has ended cleanly.
const TRIED: &str = "docker volume create -d pgvol main
    tar -C $pool/main -xf /opt/cluster.tar data
    tar -C /var/lib/pgvol/wal/main -xf /opt/cluster.tar wal
    docker pgvol snapshot create main@s
    docker pgvol clone main@s copy";

/// Steps of a copy while the server takes a backup.
const BACKING_UP: &[&str] =
    &["snapshot.backup-begun", "snapshot.data-captured", "snapshot.wal-captured"];

/// All operations.
pub(crate) const OPERATIONS: &[Operation] = &[
    Operation {
        name: "create",
        prepare: "",
        act: Act::Docker(&["volume", "create", "-d", "pgvol", "-o", "tablespaces=t", "main"]),
        steps: &["create.recorded", "create.share-begun", "create.share-made", "create.ready"],
        writes: &["create.recorded", "create.share-begun", "create.share-made"],
        ..PLAIN
    },
    Operation {
        name: "mount",
        prepare: "docker volume create -d pgvol main
            docker create --name user -v main:/pg base sleep infinity",
        act: Act::Docker(&["start", "user"]),
        steps: &["mount.staged", "mount.attached", "mount.shown", "mount.noted"],
        writes: &["mount.staged", "mount.attached", "mount.shown"],
        ..PLAIN
    },
    Operation {
        name: "unmount",
        prepare: "docker volume create -d pgvol main
            docker run -d --name user -v main:/pg base sleep infinity",
        act: Act::Docker(&["stop", "--time", "0", "user"]),
        steps: &["unmount.noted", "unmount.view-gone"],
        writes: &[],
        ..PLAIN
    },
    Operation {
        name: "remove (to the trash)",
        prepare: FILLED,
        act: Act::Docker(&["volume", "rm", "main"]),
        steps: &["remove.view-gone", "remove.ids-gone", "remove.in-trash"],
        writes: &["remove.view-gone", "remove.ids-gone"],
        ..PLAIN
    },
    Operation {
        name: "undelete",
        prepare: REMOVED,
        act: Act::Docker(&["pgvol", "undelete", "main", "--as", "back"]),
        steps: &["undelete.renamed", "undelete.restored"],
        writes: &[],
        ..PLAIN
    },
    Operation {
        name: "purge",
        prepare: REMOVED,
        act: Act::Docker(&["pgvol", "purge", "main"]),
        steps: &["purge.noted", "purge.share-emptied", "purge.share-deleted", "purge.forgotten"],
        writes: &[],
        ..PLAIN
    },
    Operation {
        name: "resize",
        prepare: SIZED,
        act: Act::Docker(&["pgvol", "resize", "main", "768M"]),
        steps: &["resize.recorded"],
        writes: &["resize.recorded"],
        ..PLAIN
    },
    Operation {
        name: "release-reserve",
        prepare: SIZED,
        act: Act::Docker(&["pgvol", "release-reserve", "main"]),
        steps: &["reserve.recorded"],
        writes: &[],
        ..PLAIN
    },
    Operation {
        name: "move of the WAL",
        prepare: "docker volume create -d pgvol -o layout=pgdata -o wal.pool=default main
            mkdir -p $pool/main/18/docker/global $pool/main/18/docker/pg_wal/archive_status
            cd $pool/main/18/docker; echo 17 >PG_VERSION; cp /opt/pg_control global
            for n in 1 2 3; do echo precious $n >pg_wal/00000001000000000000000$n; done",
        act: Act::Docker(&["pgvol", "move", "main", "wal", "wal"]),
        steps: &[
            "move.noted",
            "move.file-copied",
            "move.copied",
            "move.committed",
            "move.cleared",
            "move.done",
        ],
        writes: &["move.noted", "move.file-copied", "move.copied"],
        ..PLAIN
    },
    Operation {
        name: "snapshot",
        prepare: FILLED,
        act: Act::Docker(&["pgvol", "snapshot", "create", "main@s"]),
        steps: COPYING,
        writes: COPIED,
        ..PLAIN
    },
    Operation {
        name: "snapshot at a barrier",
        prepare: USED,
        act: Act::Docker(&["pgvol", "snapshot", "create", "--consistency=barrier", "main@s"]),
        steps: &["snapshot.stopped", "snapshot.data-captured", "snapshot.wal-held"],
        writes: &["snapshot.stopped", "snapshot.data-captured", "snapshot.wal-held"],
        ..PLAIN
    },
    Operation {
        name: "snapshot under a backup",
        prepare: SERVED,
        act: Act::Docker(&["pgvol", "snapshot", "create", "--consistency=backup", "main@s"]),
        steps: BACKING_UP,
        writes: BACKING_UP,
        is_long: true,
        is_served: true,
    },
    Operation {
        name: "clone",
        prepare: FILLED,
        act: Act::Docker(&["pgvol", "clone", "main", "copy"]),
        steps: COPYING,
        writes: COPIED,
        ..PLAIN
    },
    Operation {
        name: "prepare",
        prepare: TRIED,
        act: Act::Call("/Pgvol.Prepare", r#"{"name": "main@s", "clone": "copy"}"#),
        steps: COPYING,
        writes: COPIED,
        is_long: true,
        ..PLAIN
    },
    Operation {
        name: "restore",
        prepare: CHANGED,
        act: Act::Docker(&["pgvol", "restore", "--keep-as=kept", "main@s"]),
        steps: &[
            "restore.recorded",
            "restore.share-made",
            "restore.copied",
            "restore.committed",
            "restore.kept",
            "restore.done",
        ],
        writes: &["restore.recorded", "restore.share-made", "restore.copied"],
        ..PLAIN
    },
    Operation {
        name: "remove of a snapshot",
        prepare: SNAPSHOTTED,
        act: Act::Docker(&["pgvol", "snapshot", "rm", "main@s"]),
        steps: &["remove.view-gone", "remove.ids-gone", "remove.in-trash"],
        writes: &["remove.view-gone", "remove.ids-gone"],
        ..PLAIN
    },
    Operation {
        name: "growth of the pool",
        prepare: "docker volume create -d pgvol main; echo precious >$pool/main/data/file",
        act: Act::Docker(&[
            "run",
            "--rm",
            "--name=user",
            "-v",
            "main:/pg",
            "base",
            "sh",
            "-euc",
            FILL,
        ]),
        steps: GROWING,
        writes: GROWING,
        is_long: true,
        ..PLAIN
    },
    Operation {
        name: "shrinking of the pool",
        prepare: FILLED_AND_CLEARED,
        act: Act::Docker(&["pgvol", "pool", "shrink"]),
        steps: SHRINKING,
        writes: SHRINKING,
        is_long: true,
        ..PLAIN
    },
];
