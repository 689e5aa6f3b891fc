//! Builds the neighbours that are not Rust: the C handlers, linked and as a shared library, and the Go
//! library where there is a Go toolchain.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

const C: &str = "c/handlers.c";
const GO: &str = "go/notify.go";

fn main() {
    println!("cargo::rerun-if-changed={C}");
    println!("cargo::rerun-if-changed={GO}");
    println!("cargo::rerun-if-env-changed=PATH");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));

    cc::Build::new().file(C).compile("c_neighbour");
    let library = out.join("libc_neighbour.so");
    c_library(&library);
    println!("cargo::rustc-env=C_NEIGHBOUR={}", library.display());

    let library = out.join("libgo_neighbour.so");
    match go_library(&library, &out) {
        Ok(()) => println!("cargo::rustc-env=GO_NEIGHBOUR={}", library.display()),
        // The test says that it is skipped.
        Err(why) => println!("cargo::rustc-env=NO_GO_NEIGHBOUR={why}"),
    }
}

fn c_library(library: &Path) {
    let mut compile = cc::Build::new().get_compiler().to_command();
    compile.args(["-shared", "-fPIC", "-Wl,-Bsymbolic", "-o"]).arg(library).arg(C);
    let status = compile.status().expect("a C compiler");
    assert!(status.success(), "{compile:?}: {status}");
}

fn go_library(library: &Path, out: &Path) -> Result<(), String> {
    let mut go = Command::new("go");
    go.args(["build", "-buildmode=c-shared", "-o"]).arg(library).arg(GO);
    go.env("GOCACHE", out.join("go-cache")).env("GOPATH", out.join("go-path"));
    go.env("GO111MODULE", "off").env("CGO_ENABLED", "1");
    let output = go.output().map_err(|error| format!("no Go toolchain: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    Err(format!("go build failed: {}", text.lines().collect::<Vec<_>>().join(" | ")))
}
