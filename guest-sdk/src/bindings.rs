//! `wit/function.wit` in Rust, generated; the rest of this crate wraps it.
#![allow(
    missing_docs,
    unsafe_code,
    clippy::all,
    reason = "generated; the component model's calling convention is a matter of raw pointers"
)]

wit_bindgen::generate!({
    path: "../wit",
    world: "function",
    generate_all,
    pub_export_macro: true,
    default_bindings_module: "hearth::__private::bindings",
});
