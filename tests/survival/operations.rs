//! The operations that are cut short.

/// One operation on the volume `main` (Docker takes no name of one letter for one).
#[derive(Debug)]
pub(crate) struct Operation {
    /// What it is called in the table.
    pub(crate) name: &'static str,
    /// A shell script on the engine that makes what it needs; `$pool` is where the plugin has the
    /// image pool mounted.
    pub(crate) prepare: &'static str,
    /// The docker command.
    pub(crate) act: &'static [&'static str],
    /// Its steps, in order.
    pub(crate) steps: &'static [&'static str],
    /// Those of them where something is still to be written, so that a full disk can be met.
    pub(crate) writes: &'static [&'static str],
}

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

/// All operations.
pub(crate) const OPERATIONS: &[Operation] = &[
    Operation {
        name: "create",
        prepare: "",
        act: &["volume", "create", "-d", "pgvol", "-o", "tablespaces=t", "main"],
        steps: &["create.recorded", "create.share-begun", "create.share-made", "create.ready"],
        writes: &["create.recorded", "create.share-begun", "create.share-made"],
    },
    Operation {
        name: "mount",
        prepare: "docker volume create -d pgvol main
            docker create --name user -v main:/pg base sleep infinity",
        act: &["start", "user"],
        steps: &["mount.staged", "mount.attached", "mount.shown", "mount.noted"],
        writes: &["mount.staged", "mount.attached", "mount.shown"],
    },
    Operation {
        name: "unmount",
        prepare: "docker volume create -d pgvol main
            docker run -d --name user -v main:/pg base sleep infinity",
        act: &["stop", "--time", "0", "user"],
        steps: &["unmount.noted", "unmount.view-gone"],
        writes: &[],
    },
    Operation {
        name: "remove (to the trash)",
        prepare: FILLED,
        act: &["volume", "rm", "main"],
        steps: &["remove.view-gone", "remove.ids-gone", "remove.in-trash"],
        writes: &["remove.view-gone", "remove.ids-gone"],
    },
    Operation {
        name: "undelete",
        prepare: REMOVED,
        act: &["pgvol", "undelete", "main", "--as", "back"],
        steps: &["undelete.renamed", "undelete.restored"],
        writes: &[],
    },
    Operation {
        name: "purge",
        prepare: REMOVED,
        act: &["pgvol", "purge", "main"],
        steps: &["purge.noted", "purge.share-emptied", "purge.share-deleted", "purge.forgotten"],
        writes: &[],
    },
    Operation {
        name: "resize",
        prepare: SIZED,
        act: &["pgvol", "resize", "main", "768M"],
        steps: &["resize.recorded"],
        writes: &["resize.recorded"],
    },
    Operation {
        name: "release-reserve",
        prepare: SIZED,
        act: &["pgvol", "release-reserve", "main"],
        steps: &["reserve.recorded"],
        writes: &[],
    },
    Operation {
        name: "move of the WAL",
        prepare: "docker volume create -d pgvol -o layout=pgdata -o wal.pool=default main
            mkdir -p $pool/main/18/docker/global $pool/main/18/docker/pg_wal/archive_status
            cd $pool/main/18/docker; echo 17 >PG_VERSION; cp /opt/pg_control global
            for n in 1 2 3; do echo precious $n >pg_wal/00000001000000000000000$n; done",
        act: &["pgvol", "move", "main", "wal", "wal"],
        steps: &[
            "move.noted",
            "move.file-copied",
            "move.copied",
            "move.committed",
            "move.cleared",
            "move.done",
        ],
        writes: &["move.noted", "move.file-copied", "move.copied"],
    },
    Operation {
        name: "snapshot",
        prepare: FILLED,
        act: &["pgvol", "snapshot", "create", "main@s"],
        steps: COPYING,
        writes: COPIED,
    },
    Operation {
        name: "snapshot at a barrier",
        prepare: USED,
        act: &["pgvol", "snapshot", "create", "--consistency=barrier", "main@s"],
        steps: &["snapshot.stopped", "snapshot.data-captured", "snapshot.wal-held"],
        writes: &["snapshot.stopped", "snapshot.data-captured", "snapshot.wal-held"],
    },
    Operation {
        name: "clone",
        prepare: FILLED,
        act: &["pgvol", "clone", "main", "copy"],
        steps: COPYING,
        writes: COPIED,
    },
    Operation {
        name: "restore",
        prepare: CHANGED,
        act: &["pgvol", "restore", "--keep-as=kept", "main@s"],
        steps: &[
            "restore.recorded",
            "restore.share-made",
            "restore.copied",
            "restore.committed",
            "restore.kept",
            "restore.done",
        ],
        writes: &["restore.recorded", "restore.share-made", "restore.copied"],
    },
    Operation {
        name: "remove of a snapshot",
        prepare: SNAPSHOTTED,
        act: &["pgvol", "snapshot", "rm", "main@s"],
        steps: &["remove.view-gone", "remove.ids-gone", "remove.in-trash"],
        writes: &["remove.view-gone", "remove.ids-gone"],
    },
];
