//! To be written.
mod support;
fn main() {
    support::main(all![], all![]);
}
