#![doc = include_str!("guide.md")]
#![allow(
    clippy::test_attr_in_doctest,
    reason = "tests/doc_programs.rs runs the tests that this page shows"
)]

/// The snippets of the other pages are compiled with this one's.
#[cfg(doctest)]
mod pages {
    #[doc = include_str!("../docs/from-ctrlc.md")]
    struct FromCtrlc;
    #[doc = include_str!("../docs/from-signal-hook.md")]
    struct FromSignalHook;
    #[doc = include_str!("../docs/python.md")]
    struct Python;
}
