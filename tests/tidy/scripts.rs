//! Every script says what it is for, and does nothing else, where it is asked that.

use std::os::unix::fs::PermissionsExt;

use super::root;

#[test]
fn scripts_say_what_they_are_for() {
    let mut seen = 0;
    for entry in std::fs::read_dir(root().join("scripts")).expect("the scripts").flatten() {
        let mode = entry.metadata().expect("a script").permissions().mode();
        if entry.path().is_dir() || mode & 0o111 == 0 {
            continue;
        }
        seen += 1;
        let name = entry.file_name().display().to_string();
        for word in ["--help", "-h"] {
            #[expect(clippy::disallowed_methods, reason = "it does nothing that takes time")]
            let output = std::process::Command::new(entry.path()).arg(word).output();
            let output = output.expect("a script runs");
            let said = String::from_utf8_lossy(&output.stdout);
            assert!(
                output.status.success() && output.stderr.is_empty(),
                "{name} {word}: {output:?}"
            );
            assert!(said.contains(&format!("usage: {name}")), "{name} {word}: {said}");
        }
    }
    assert!(seen > 6, "the scripts are not where they were: {seen}");
}
