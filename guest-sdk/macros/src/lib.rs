//! The attribute `#[hearth::function]`, and what `hearth::declare!` cannot do by itself. Their
//! documentation is where they are re-exported, in `hearth`.
//!
//! Promises:
//! - the function it marks is left as it was written, so that it can be called and tested;
//! - whatever cannot become a function is a compile error that says what to write instead.
//!
//! Left to others: everything that happens at run time (`hearth::__private`).

use proc_macro::{Literal, TokenStream, TokenTree};

mod function;

/// Makes an `async fn` the function of this component; see `hearth::function`.
#[proc_macro_attribute]
pub fn function(arguments: TokenStream, item: TokenStream) -> TokenStream {
    function::expand(arguments.into(), item.into())
        .unwrap_or_else(|error| error.to_compile_error())
        .into()
}

/// The line on which its argument stands, as a number. `line!` would tell that of the outermost
/// macro.
#[proc_macro]
pub fn line_of(tokens: TokenStream) -> TokenStream {
    let line = tokens
        .into_iter()
        .next()
        .map_or(0, |token| token.span().line());
    TokenTree::from(Literal::usize_unsuffixed(line)).into()
}
