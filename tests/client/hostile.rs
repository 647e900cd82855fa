//! Root of a container plants what it likes wherever pgvol looks: every command is answered, nothing
//! outside is followed or changed, nothing ends the plugin, and the volume can be removed.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::{Engine, Scenario, Stage, eventually};

/// Longer than any of the commands takes, shorter than for ever.
const LIMIT: Duration = Duration::from_mins(1);

/// The control file of a cluster that was cleanly stopped.
const CONTROL: &[u8] = include_bytes!("../../volume-plugin/fixtures/pg_control/17");

pub(crate) fn scenarios() -> Vec<Scenario> {
    // Much of it is refused, each with its reason in the log.
    vec![Scenario::new("what_containers_plant_leads_nowhere", planted).tolerating(&[""])]
}

/// What the plugin sees as `/host/state/canary`.
const OUTSIDE: &str = "mkdir -p /var/lib/canary/global /var/lib/canary/pg_wal
    echo precious >/var/lib/canary/file; echo precious >/var/lib/canary/pg_wal/file
    cp /opt/pg_control /var/lib/canary/global; echo 17 >/var/lib/canary/PG_VERSION";

/// What must stay as it is.
const LOOK: &str =
    "cd /var/lib/canary; find . -printf '%p %y %m %u %n %s %T@\\n' | sort; cat file pg_wal/*";

/// In a container: a cluster that looks like one, and each kind of thing in turn at each place.
const PLANT: &str = r#"
    outside=/host/state/canary
    plant() {
        rm -rf "$2"
        case $1 in
            0) ln -s $outside "$2" ;;
            1) ln -s $outside/file "$2" ;;
            2) ln -s /proc/1/root/var/lib/canary "$2" ;;
            3) mkfifo "$2" ;;
            4) mknod "$2" c 4 63 ;;
            5) mknod "$2" b 7 0 ;;
            6) perl -MIO::Socket::UNIX -e 'IO::Socket::UNIX->new(Local => $ARGV[0], Listen => 1) or die' "$2" ;;
            7) mkdir "$2"; (cd "$2"; mkdir "$(printf 'n%.0s' {1..255})" $'new\nline' $'not \xff utf-8'
                mkfifo PG_VERSION; ln -s / global; ln -s . loop) ;;
            8) truncate -s 4T "$2" ;;
            9) ln "$3" "$2" ;;
        esac
    }
    cd /pg; echo hard >data/hard
    mkdir -p data/global data/pg_tblspc data/pg_replslot data/pg_stat data/base/5 data/pg_logical
    echo 17 >data/PG_VERSION; cp /control data/global/pg_control
    kind=$1
    for place in data/postmaster.pid data/pg_wal data/pg_tblspc/16384 data/postgresql.auto.conf \
        data/backup_label data/tablespace_map data/pg_replslot/slot data/pg_stat/db_5.stat data/base/5/1259 \
        data/pg_logical/snapshots data/strange tablespaces/t/PG_17_202406281 strange; do
        plant $((kind % 10)) "$place" data/hard; kind=$((kind + 1))
    done
    plant $((kind % 9)) wal/000000010000000000000001
    if [ "$2" = control ]; then plant $(($1 % 9)) data/global/pg_control; fi
    if [ "$2" = version ]; then plant $(($1 % 9)) data/PG_VERSION; fi
"#;

/// In a container: more than anybody reads at once.
const MANY: &str = "cd /pg; mkdir -p data/global data/pg_wal data/pg_tblspc; echo 17 >data/PG_VERSION
    cp /control data/global/pg_control
    for place in data/pg_wal data/pg_tblspc tablespaces/t; do (cd $place; seq 100000 | xargs touch); done";

fn planted(stage: &Stage) -> Result<()> {
    let (engine, plugin) = (stage.engine(), stage.plugin()?);
    let control = CONTROL.iter().map(|byte| format!("\\x{byte:02x}")).collect::<Vec<_>>().concat();
    engine.shell(&format!("printf '{control}' >/opt/pg_control"))?;
    engine.shell(OUTSIDE)?;
    let outside = engine.shell(LOOK)?;
    let pid = plugin.pid()?;
    for kind in [0, 2, 5, 7, 8] {
        let also = if kind == 0 {
            "none"
        } else if kind < 7 {
            "control"
        } else {
            "version"
        };
        let what = format!("kind {kind}, {also}");
        let plant = format!("set -- {kind} {also}{PLANT}");
        survives(engine, &plant).context(what.clone())?;
        ensure!(engine.shell(LOOK)? == outside, "{what}: something outside has changed");
        ensure!(plugin.pid()? == pid, "{what}: the plugin has ended");
    }
    survives(engine, MANY).context("many")?;
    ensure!(plugin.pid()? == pid, "the plugin has ended");
    ensure!(engine.shell(LOOK)? == outside, "something outside has changed");
    engine.shell("rm -r /var/lib/canary /opt/pg_control").map(drop)
}

/// Everything that can be asked of a volume in which `script` has worked is answered, yes or no.
fn survives(engine: &Engine, script: &str) -> Result<()> {
    engine.docker(&["volume", "create", "-d", "pgvol", "-o", "tablespaces=t", "appdb"])?;
    let run = ["run", "--rm", "-v", "appdb:/pg", "-v", "/opt/pg_control:/control:ro", "base"];
    engine.docker(&[&run[..], &["bash", "-euc", script]].concat())?;
    let answered = |arguments: &[&str]| engine.client(LIMIT, arguments);
    let shown = engine.docker(&["volume", "inspect", "--format", "{{.Status.state}}", "appdb"])?;
    ensure!(["ok", "degraded"].contains(&shown.as_str()), "{shown}");
    engine.docker(&["pgvol", "df", "--exact"])?;
    answered(&["pgvol", "snapshot", "create", "appdb@s"])?;
    answered(&["pgvol", "verify", "--pages", "appdb@s"])?;
    answered(&["pgvol", "clone", "appdb", "copy"])?;
    // Whoever mounts it finds what was planted, and the plugin looks for a WAL to move.
    answered(&["run", "--rm", "-v", "copy:/pg", "base", "true"])?;
    answered(&["pgvol", "restore", "appdb@s"])?;
    answered(&["pgvol", "move", "appdb", "wal", "default"])?;
    engine.docker(&["pgvol", "ls"])?;
    engine
        .shell("! docker volume inspect copy || docker volume rm copy; docker volume rm appdb")?;
    engine.docker(&["pgvol", "purge", "--all"])?;
    eventually(LIMIT, || {
        let left = engine.shell("ls /var/lib/pgvol/catalog /var/lib/pgvol/wal")?;
        ensure!(!left.contains("appdb") && !left.contains("copy"), "left is {left}");
        Ok(())
    })
}
