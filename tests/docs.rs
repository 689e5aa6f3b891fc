//! What the pages beside the code say is what the manifest and the directory say.

#![allow(missing_docs, reason = "a test binary")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(ROOT).join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[test]
fn the_changelog_has_this_version() {
    let heading = format!("\n## [{}]", env!("CARGO_PKG_VERSION"));
    assert!(read("CHANGELOG.md").contains(&heading), "no heading `{}`", heading.trim());
}

#[test]
fn the_pages_name_the_rust_version() {
    let version = concat!("Rust ", env!("CARGO_PKG_RUST_VERSION"));
    for page in ["README.md", "CONTRIBUTING.md"] {
        assert!(read(page).contains(version), "{page} does not name {version}");
    }
}

#[test]
fn the_readme_has_a_line_for_every_example_and_program() {
    let readme = read("README.md");
    for directory in ["examples", "programs/src/bin"] {
        let names: BTreeSet<String> = fs::read_dir(Path::new(ROOT).join(directory))
            .unwrap()
            .map(|entry| entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
            .collect();
        assert!(!names.is_empty(), "nothing in {directory}");
        for name in names {
            let row = format!("\n| [`{name}`]({directory}/{name}.rs) | ");
            assert!(readme.contains(&row), "no line for {name}");
        }
    }
}

#[test]
fn what_the_readme_links_to_is_there() {
    let readme = read("README.md");
    let links = readme.split("](").skip(1).map(|rest| rest.split(')').next().unwrap());
    let pictures = ["srcset=\"", "src=\""]
        .into_iter()
        .flat_map(|attribute| readme.split(attribute).skip(1))
        .map(|rest| rest.split('"').next().unwrap());
    let files: Vec<&str> =
        links.chain(pictures).filter(|target| !target.starts_with("http")).collect();
    assert!(files.contains(&"docs/timeline-dark.svg"), "{files:?}");
    for file in files {
        assert!(Path::new(ROOT).join(file).exists(), "the README links to {file}");
    }
}

#[test]
fn the_two_pictures_differ_in_colour_only() {
    let without_style = |path: &str| {
        let svg = read(path);
        let (before, rest) = svg.split_once("<style>").unwrap();
        let (_, after) = rest.split_once("</style>").unwrap();
        format!("{before}{after}")
    };
    assert_eq!(without_style("docs/timeline-light.svg"), without_style("docs/timeline-dark.svg"));
}
