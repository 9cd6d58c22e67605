//! The attribute `#[hearth::function]`. Its documentation is where it is re-exported, in `hearth`.
//!
//! Promises:
//! - the function it marks is left as it was written, so that it can be called and tested;
//! - whatever cannot become a function is a compile error that says what to write instead.
//!
//! Left to others: everything that happens at run time (`hearth::__private`).

use proc_macro::TokenStream;

mod function;

/// Makes an `async fn` the function of this component; see `hearth::function`.
#[proc_macro_attribute]
pub fn function(arguments: TokenStream, item: TokenStream) -> TokenStream {
    function::expand(arguments.into(), item.into())
        .unwrap_or_else(|error| error.to_compile_error())
        .into()
}
