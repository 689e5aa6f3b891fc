//! Size and build time of a small program with the crate, beside the same with a peer.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use crate::report::Row;
use crate::sampling::{Samples, is_quick, round_robin};

struct Program {
    name: &'static str,
    dependency: &'static str,
    body: &'static str,
}

const PROGRAMS: [Program; 5] = [
    Program {
        name: "ours",
        dependency: concat!(
            r#"handle-exit = { path = ""#,
            env!("CARGO_MANIFEST_DIR"),
            r#"/../.." }"#
        ),
        body: r#"let _guard = handle_exit::HandleExit::cleanup(|| println!("bye"));"#,
    },
    Program {
        name: "ctrlc",
        dependency: r#"ctrlc = { version = "3.5", features = ["termination"] }"#,
        body: r#"let _ = ctrlc::set_handler(|| { println!("bye"); std::process::exit(0) });"#,
    },
    Program {
        name: "signal-hook",
        dependency: r#"signal-hook = "0.4.6""#,
        body: r#"
            use signal_hook::consts::{SIGINT, SIGTERM};
            let mut signals = signal_hook::iterator::Signals::new([SIGTERM, SIGINT]).unwrap();
            std::thread::spawn(move || {
                if signals.forever().next().is_some() { println!("bye"); std::process::exit(0) }
            });"#,
    },
    Program { name: "none", dependency: "", body: "" },
    Program {
        name: "dependencies",
        dependency: r#"
            nix = { version = "0.31", default-features = false, features = ["signal"] }
            scopeguard = { version = "1.2", default-features = false }
            thiserror = "2""#,
        body: "",
    },
];

pub(crate) fn measure() -> Vec<Row> {
    let mut sizes = [0; PROGRAMS.len()];
    let rounds = if is_quick() { 1 } else { 3 };
    let [ours, ctrlc, hook, _, dependencies] =
        round_robin(PROGRAMS.map(|one| one.name), rounds, |name| {
            let index = PROGRAMS.iter().position(|one| one.name == name).expect("a program");
            let (seconds, size) = build(&PROGRAMS[index]);
            sizes[index] = size;
            vec![seconds]
        });
    let [our_size, ctrlc_size, hook_size, none, _] = sizes;
    let size = "stripped program, more than without";
    let more = |size: u64| size.saturating_sub(none);
    let time = "clean release build";
    let row = |ours: &Samples, peer, theirs| Row::growth(time, ours, peer, theirs);
    vec![
        Row::sizes(size, more(our_size), "ctrlc", more(ctrlc_size), Some(2.0)),
        Row::sizes(size, more(our_size), "signal-hook", more(hook_size), None),
        Row::build(time, &ours, "nix, scopeguard and thiserror alone", &dependencies),
        row(&ours, "ctrlc", &ctrlc),
        row(&ours, "signal-hook", &hook),
    ]
}

/// Builds the program from nothing: how long it took in nanoseconds, and how large it is.
fn build(program: &Program) -> (f64, u64) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let Program { dependency, body, .. } = program;
    write(
        dir.path(),
        "Cargo.toml",
        &format!(
            "[package]\nname = \"program\"\nedition = \"2024\"\n\
         [dependencies]\n{dependency}\n[profile.release]\nstrip = true\n[workspace]\n"
        ),
    );
    // The same versions as everywhere else in this run.
    write(dir.path(), "Cargo.lock", include_str!("../../../Cargo.lock"));
    write(dir.path(), "src/main.rs", &format!("fn main() {{ {body} std::thread::park(); }}"));
    let begun = Instant::now();
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args(["build", "--release", "--offline", "--quiet", "--target-dir", "target"])
        .current_dir(dir.path())
        .status();
    assert!(status.expect("running cargo").success(), "building with {}", program.name);
    let took = begun.elapsed();
    let built = dir.path().join("target/release/program");
    (took.as_secs_f64() * 1e9, fs::metadata(built).expect("the program").len())
}

fn write(dir: &Path, name: &str, text: &str) {
    let path = dir.join(name);
    fs::create_dir_all(path.parent().expect("a directory")).expect("a temporary directory");
    fs::write(path, text).expect("writing to a temporary directory");
}
