//! What the pages beside the code say is what the manifest, the directory and the examples say.

#![allow(missing_docs, reason = "a test binary")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(ROOT).join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The names in a directory, with or without what stands behind the dot.
fn names(directory: &str, part: fn(&Path) -> Option<&std::ffi::OsStr>) -> BTreeSet<String> {
    let entries = fs::read_dir(Path::new(ROOT).join(directory)).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_file());
    paths.map(|path| part(&path).unwrap().to_string_lossy().into_owned()).collect()
}

/// How the rendered documentation of the crate is linked to.
const RENDERED: &str = "https://docs.rs/handle-exit/latest/handle_exit/";

/// README, guide, and every page in `docs`.
fn pages() -> Vec<String> {
    let docs = names("docs", Path::file_name);
    let docs = docs.iter().filter(|name| name.ends_with(".md")).map(|name| format!("docs/{name}"));
    ["README.md", "src/guide.md"].map(str::to_owned).into_iter().chain(docs).collect()
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
fn the_readme_is_short() {
    let lines = read("README.md").lines().count();
    assert!(lines <= 130, "{lines} lines: move what a newcomer does not need to docs/");
}

#[test]
fn there_is_a_line_for_every_example_and_program() {
    let page = read("docs/programs.md");
    for directory in ["examples", "programs/src/bin"] {
        let names = names(directory, Path::file_stem);
        assert!(!names.is_empty(), "nothing in {directory}");
        for name in names.iter().filter(|name| !is_shown(name)) {
            let row = format!("\n| [`{name}`](../{directory}/{name}.rs) | ");
            assert!(page.contains(&row), "no line for {name}");
        }
    }
}

/// Whether an example is the text of a program on a page.
fn is_shown(example: &str) -> bool {
    example.starts_with("readme_") || example.starts_with("guide_")
}

// ------------------------------------------------------------------------------------ programs

/// Each block of code on a page: what stands behind its fence, and its lines, with the hidden ones.
fn blocks(page: &str) -> Vec<(String, String)> {
    let text = read(page);
    let is_rustdoc = page == "src/guide.md";
    let mut blocks: Vec<(String, String)> = Vec::new();
    let mut is_open = false;
    for line in text.lines() {
        if let Some(info) = line.trim_start().strip_prefix("```") {
            is_open = !is_open;
            if is_open {
                blocks.push((info.to_owned(), String::new()));
            }
        } else if is_open {
            let code = &mut blocks.last_mut().unwrap().1;
            // Rustdoc hides these lines.
            let hidden = if line == "#" { Some("") } else { line.strip_prefix("# ") };
            code.push_str(if is_rustdoc { hidden.unwrap_or(line) } else { line });
            code.push('\n');
        }
    }
    assert!(!is_open, "{page}: a block without an end");
    blocks
}

/// The text of a source file behind the comment that it begins with.
fn behind_its_comment(path: &str) -> String {
    let text = read(path);
    let (comment, code) = text.split_once("\n\n").unwrap();
    assert!(comment.lines().all(|line| line.starts_with("//")), "{path}: no comment of its own");
    code.to_owned()
}

/// Where the code of an example is: one that is for Unix alone is included by what builds everywhere.
fn file_of(example: &str) -> String {
    let unix = format!("examples/unix/{example}.rs");
    let is_there = Path::new(ROOT).join(&unix).exists();
    if is_there { unix } else { format!("examples/{example}.rs") }
}

/// A program that is not run as a test of the documentation is an example, and `tests/doc_programs.rs` runs that.
#[test]
fn the_programs_on_the_pages_are_the_examples() {
    let mut examples: BTreeMap<String, String> = names("examples", Path::file_stem)
        .into_iter()
        .filter(|name| is_shown(name))
        .map(|name| (behind_its_comment(&file_of(&name)), name))
        .collect();
    assert!(!examples.is_empty());
    for page in pages() {
        for (info, code) in blocks(&page) {
            let has_main =
                code.lines().any(|line| line.trim_start_matches("async ").starts_with("fn main("));
            if has_main && info.contains("no_run") {
                assert!(examples.remove(&code).is_some(), "{page}: this is no example:\n{code}");
            }
        }
    }
    assert!(examples.is_empty(), "no page shows these: {:?}", examples.values());
}

#[test]
fn the_tests_in_the_guide_are_run() {
    let shown = behind_its_comment("tests/support/guide_tests.rs");
    let is_there = blocks("src/guide.md").iter().any(|(_, code)| *code == shown);
    assert!(is_there, "the guide shows other tests than tests/support/guide_tests.rs");
}

/// Neither a clean-up whose terminal is gone nor a body whose `| tee` has been ended by the same `^C` may panic.
#[test]
fn no_program_on_the_pages_uses_a_macro_that_panics() {
    for page in pages() {
        for (_, code) in blocks(&page) {
            for line in code.lines() {
                let panics = ["println!(", "print!("].iter().any(|name| line.contains(name));
                assert!(!panics, "{page}: {line}");
            }
        }
    }
}

/// What a native reader stumbles over; `CONTRIBUTING.md` says what to write instead.
#[test]
fn the_pages_use_plain_words() {
    const AVOIDED: &[&str] = &[
        "dies of",
        "die of",
        "died of",
        "put back",
        "puts back",
        "the grace ",
        "the grace,",
        "the grace.",
        "goes on",
        "go on",
        "whoever",
        "behind the scope",
        "not alone",
        "stood before",
    ];
    for page in pages().into_iter().chain(["CHANGELOG.md".into()]) {
        let text = read(&page).replace('\n', " ").replace("grace period", "").to_lowercase();
        for words in AVOIDED {
            let at = text.find(words);
            let around = at.map(|at| text[at..].chars().take(60).collect::<String>());
            assert_eq!(around, None, "{page}");
        }
    }
}

// --------------------------------------------------------------------------------------- links

/// What a page links to and shows, without what is on the web and within the page.
fn links(page: &str) -> BTreeSet<String> {
    let text = read(page);
    let targets = text.split("](").skip(1).map(|rest| rest.split(')').next().unwrap());
    targets
        .map(|target| target.split('#').next().unwrap())
        // Rustdoc checks the links to items.
        .filter(|file| !file.is_empty() && !file.starts_with("http") && !file.contains("::"))
        .map(str::to_owned)
        .collect()
}

#[test]
fn what_the_pages_link_to_is_there() {
    let pages = pages().into_iter().chain(["CONTRIBUTING.md".into(), "CHANGELOG.md".into()]);
    for page in pages.filter(|page| page.ends_with(".md")) {
        let directory = Path::new(ROOT).join(&page);
        for file in links(&page) {
            let there = directory.parent().unwrap().join(&file);
            assert!(there.exists(), "{page} links to {file}");
        }
    }
}

/// The name by which rustdoc links to a heading.
fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}

/// The anchors of a page that rustdoc renders; `comment` is what stands before each line.
fn anchors(path: &str, comment: &str) -> BTreeSet<String> {
    let text = read(path);
    let headings = text.lines().filter_map(|line| line.strip_prefix(comment)?.strip_prefix("# "));
    headings.map(anchor).collect()
}

/// The pages link to sections of the rendered documentation, and the guide to sections of its own.
#[test]
fn the_sections_that_the_pages_link_to_are_there() {
    let (guide, map) = (anchors("src/guide.md", ""), anchors("src/lib.rs", "//! "));
    let mut checked = 0;
    for page in pages().into_iter().chain(["CHANGELOG.md".into(), "CONTRIBUTING.md".into()]) {
        let text = read(&page);
        let ends = |rest: &str| rest.find([')', '>', '\n', ' ']).unwrap_or(rest.len());
        let rendered = text.split(RENDERED).skip(1).map(|rest| rest[..ends(rest)].to_owned());
        let within =
            text.split("](#").skip(1).map(|rest| format!("guide/#{}", &rest[..ends(rest)]));
        let within: Vec<String> =
            if page == "src/guide.md" { within.collect() } else { Vec::new() };
        for target in rendered.chain(within) {
            let (item, section) = target.split_once('#').unwrap_or((&target, ""));
            let sections = match item {
                "" => &map,
                "guide/" => &guide,
                _ => panic!("{page} links to {target}"),
            };
            assert!(section.is_empty() || sections.contains(section), "{page}: no {target}");
            checked += 1;
        }
    }
    assert!(checked > 20, "only {checked} links were found");
}

/// The registry's page is made from the package: what the README shows and links to is in there.
#[test]
fn what_the_readme_links_to_is_packaged() {
    let manifest = read("Cargo.toml");
    let (_, include) = manifest.split_once("\ninclude = [").unwrap();
    let patterns: Vec<&str> =
        include.split(']').next().unwrap().split('"').skip(1).step_by(2).collect();
    let links = links("README.md");
    assert!(links.contains("docs/timeline.svg"), "{links:?}");
    for file in links {
        let is_packaged = patterns.iter().any(|pattern| match pattern.split_once('*') {
            None => pattern[1..] == file,
            Some((before, after)) => {
                let extension = after.rsplit('*').next().unwrap();
                file.starts_with(&before[1..]) && file.ends_with(extension)
            }
        });
        assert!(is_packaged, "{file} is not in the package");
    }
}

/// The documentation of a function in `src`, without its comment marks.
fn documentation_of(function: &str) -> String {
    fn files_in(directory: &Path, files: &mut Vec<std::path::PathBuf>) {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                files_in(&path, files);
            } else {
                files.push(path);
            }
        }
    }
    let mut files = Vec::new();
    files_in(&Path::new(ROOT).join("src"), &mut files);
    let texts = files.iter().map(|file| fs::read_to_string(file).unwrap());
    let before = texts.filter_map(|text| Some(text.split_once(function)?.0.to_owned())).next();
    let before = before.unwrap_or_else(|| panic!("no `{function}` in src"));
    let mut lines: Vec<_> = before
        .lines()
        .rev()
        .map(str::trim)
        .skip_while(|line| line.is_empty() || line.starts_with("#["))
        .map_while(|line| line.strip_prefix("///"))
        .collect();
    lines.reverse();
    assert!(!lines.is_empty(), "`{function}` has no documentation");
    lines.join("\n")
}

/// A guest is refused neither because of a host nor because of another guest.
#[test]
fn append_names_its_errors() {
    let documentation = documentation_of("pub fn append(callback:");
    let (_, errors) = documentation.split_once("# Errors").unwrap();
    for (error, is_named) in [("Nested", false), ("Busy", true), ("System", true)] {
        assert_eq!(errors.contains(error), is_named, "{error}: {errors}");
    }
}

/// A signal interrupts `poll`, however its handler is installed.
#[test]
fn readable_fd_says_what_a_signal_does_to_poll() {
    let documentation = documentation_of("pub fn readable_fd(");
    let says = ["EINTR", "Interrupted"].iter().any(|name| documentation.contains(name));
    assert!(says, "{documentation}");
}

/// What stands between backticks and looks like a path.
#[test]
fn the_files_that_contributing_names_are_there() {
    let page = read("CONTRIBUTING.md");
    let prose = page.split("```").step_by(2).collect::<Vec<_>>().join("\n");
    let mut count = 0;
    for span in prose.split('`').skip(1).step_by(2) {
        let name = span.split(' ').next().unwrap();
        let directories = ["src/", "tests/", "docs/", "examples/", "benches/", ".ci/"];
        let is_path = directories.iter().any(|directory| name.starts_with(directory))
            || name.ends_with(".rs")
            || name.ends_with(".md")
            || name.ends_with(".toml");
        if !is_path || name.contains('<') || name.contains('…') {
            continue;
        }
        count += 1;
        let places = ["", "tests/process", "tests/support"];
        let is_there = places.iter().any(|place| Path::new(ROOT).join(place).join(name).exists());
        assert!(is_there, "CONTRIBUTING.md names {name}");
    }
    assert!(count > 10, "{count}");
}
