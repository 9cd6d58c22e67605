//! What `#[hearth::function]` expands to, as a pure rule from tokens to tokens.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::parse::{Parse, ParseStream, Parser};
use syn::spanned::Spanned;
use syn::{Error, FnArg, Ident, ItemFn, Path, Result, ReturnType, Token, Type};

const SIGNATURE: &str = "async fn handle(event: Event) -> Result<Answer, hearth::Error>";

/// What stands in the attribute's parentheses: nothing, or hooks as in `init = path`.
#[derive(Default)]
struct Arguments {
    init: Option<Path>,
    snapshot: Option<Path>,
    restored: Option<Path>,
}

impl Parse for Arguments {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let mut arguments = Self::default();
        while !input.is_empty() {
            let name: Ident = input.parse()?;
            let hook = match name.to_string().as_str() {
                "init" => Some(&mut arguments.init),
                "snapshot" => Some(&mut arguments.snapshot),
                "restored" => Some(&mut arguments.restored),
                _ => None,
            };
            let Some(hook) = hook.filter(|hook| hook.is_none()) else {
                return Err(Error::new(
                    name.span(),
                    "expected `init`, `snapshot` and `restored`, each once at most, as in `init = warm_up`, where \
                     `warm_up` is an `async fn` without arguments that returns a `Result<(), _>`",
                ));
            };
            input.parse::<Token![=]>()?;
            *hook = Some(input.parse()?);
            if !input.is_empty() {
                input.parse::<Token![,]>()?;
            }
        }
        Ok(arguments)
    }
}

/// The marked item, unchanged, and the exports of a component that calls it.
///
/// Fails with what to write instead, at the place where it is wrong.
pub(crate) fn expand(arguments: TokenStream, item: TokenStream) -> Result<TokenStream> {
    let arguments = Arguments::parse.parse2(arguments)?;
    let function: ItemFn = syn::parse2(item).map_err(|error| {
        Error::new(
            error.span(),
            format!("`#[hearth::function]` marks a function: `{SIGNATURE}` ({error})"),
        )
    })?;
    let inputs = inputs(&function)?;

    let name = &function.sig.ident;
    let event = inputs[0];
    // The names of variables begin with `__`: the function may have any other name.
    // Each part has the place of the type that it is about, for an error to point there.
    let decode = quote_spanned!(event.span()=> ::hearth::__private::decode::<#event>(__event)?);
    let context = inputs
        .get(1)
        .map(|context| quote_spanned!(context.span()=> ::hearth::__private::context(__context)));
    let place = match &function.sig.output {
        ReturnType::Default => name.span(),
        ReturnType::Type(_, output) => output.span(),
    };
    let answer = quote_spanned!(place=>
        ::hearth::__private::answer(__outcome, __deadline_ms, __work)
    );
    let hooks = hooks(&arguments);

    Ok(quote! {
        #function

        // Whatever its module, the name is the crate's: a second one does not compile, and says so.
        // Without it the linker would be the first to object, in its own words.
        #[doc(hidden)]
        #[macro_export]
        macro_rules! a_component_has_only_one_hearth_function {
            () => {};
        }

        const _: () = {
            struct Function;

            impl ::hearth::__private::Guest for Function {
                #hooks

                async fn handle(
                    __event: ::std::vec::Vec<u8>,
                    __context: ::hearth::__private::Context,
                ) -> ::hearth::__private::Answered {
                    let __deadline_ms = __context.deadline_ms;
                    let __handler = #name(#decode, #context);
                    let (__outcome, __work) =
                        ::hearth::__private::run(__deadline_ms, __handler).await;
                    #answer
                }
            }

            // Elsewhere there is nothing to export to, but the function is not dead code.
            #[cfg(not(target_arch = "wasm32"))]
            const _: fn() = ::hearth::__private::exported::<Function>;
            #[cfg(target_arch = "wasm32")]
            ::hearth::__private::export!(Function with_types_in ::hearth::__private::bindings);
        };
    })
}

/// The exports of a component around its `handle`. Who names no hook for it looks after no copy.
fn hooks(arguments: &Arguments) -> TokenStream {
    let hook = |named: &Option<Path>| match named {
        Some(path) => quote_spanned!(path.span()=> ::hearth::__private::hook(#path).await),
        None => quote!(::core::result::Result::Ok(())),
    };
    let (init, snapshot) = (hook(&arguments.init), hook(&arguments.snapshot));
    let restored = match &arguments.restored {
        Some(path) => quote_spanned!(path.span()=> ::hearth::__private::restored(#path).await),
        None => quote!(::core::result::Result::Ok(
            ::hearth::__private::Verdict::Rebuild
        )),
    };
    quote! {
        async fn init() -> ::core::result::Result<(), ::hearth::__private::Failure> {
            #init
        }

        async fn snapshot() -> ::core::result::Result<(), ::hearth::__private::Failure> {
            #snapshot
        }

        async fn restored() -> ::core::result::Result<
            ::hearth::__private::Verdict,
            ::hearth::__private::Failure,
        > {
            #restored
        }
    }
}

/// The types of the one or two arguments.
fn inputs(function: &ItemFn) -> Result<Vec<&Type>> {
    let signature = &function.sig;
    if signature.asyncness.is_none() {
        return Err(Error::new(
            signature.fn_token.span(),
            format!("a function is asynchronous: write `{SIGNATURE}`"),
        ));
    }
    if !signature.generics.params.is_empty() || signature.generics.where_clause.is_some() {
        return Err(Error::new(
            signature.generics.span(),
            "a function has no generics, since the host calls it with bytes: name the types",
        ));
    }
    if let Some(qualifier) = signature
        .unsafety
        .map(|token| token.span())
        .or(signature.abi.as_ref().map(Spanned::span))
    {
        return Err(Error::new(
            qualifier,
            format!("a function is neither `unsafe` nor `extern`: write `{SIGNATURE}`"),
        ));
    }
    let inputs = signature
        .inputs
        .iter()
        .map(|input| match input {
            FnArg::Typed(input) => Ok(&*input.ty),
            FnArg::Receiver(receiver) => Err(Error::new(
                receiver.span(),
                "a function has no `self`: keep what lasts between invocations in a `static`",
            )),
        })
        .collect::<Result<Vec<_>>>()?;
    match inputs.len() {
        1 if is_context(inputs[0]) => Err(event_first(inputs[0])),
        2 if is_context(inputs[0]) && !is_context(inputs[1]) => Err(event_first(inputs[0])),
        1 | 2 => Ok(inputs),
        0 => Err(Error::new(
            signature.paren_token.span.join(),
            format!(
                "a function takes its event: write `{SIGNATURE}`, where `Event` may be \
                 `serde_json::Value` or `hearth::Raw`"
            ),
        )),
        _ => Err(Error::new(
            inputs[2].span(),
            "a function takes its event and, if it likes, a `hearth::Context`, but nothing more",
        )),
    }
}

fn event_first(context: &Type) -> Error {
    Error::new(
        context.span(),
        format!("the event comes first: write `{SIGNATURE}`, with `cx: hearth::Context` behind it"),
    )
}

/// Whether a type is named as the SDK's context is.
fn is_context(type_: &Type) -> bool {
    let Type::Path(path) = type_ else {
        return false;
    };
    path.path
        .segments
        .last()
        .is_some_and(|last| last.ident == "Context")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misuse_says_what_to_write() {
        let cases: [(TokenStream, TokenStream, &str); 14] = [
            (
                quote!(),
                quote!(
                    async fn f(cx: hearth::Context, e: E) -> R {}
                ),
                "the event comes first: write `async fn handle(event",
            ),
            (
                quote!(),
                quote!(
                    async fn f(cx: Context) -> R {}
                ),
                "the event comes first: write `async fn handle(event",
            ),
            (
                quote!(),
                quote!(
                    fn f(e: E) -> R {}
                ),
                "asynchronous: write `async fn handle(event",
            ),
            (
                quote!(),
                quote!(
                    async fn f() -> R {}
                ),
                "a function takes its event: write `async fn",
            ),
            (
                quote!(),
                quote!(
                    async fn f(a: A, b: B, c: C) -> R {}
                ),
                "but nothing more",
            ),
            (
                quote!(),
                quote!(
                    async fn f(&self, a: A) -> R {}
                ),
                "has no `self`",
            ),
            (
                quote!(),
                quote!(
                    async fn f<T>(a: T) -> R {}
                ),
                "has no generics",
            ),
            (
                quote!(),
                quote!(
                    async fn f(a: A) -> R
                    where
                        A: B,
                    {
                    }
                ),
                "has no generics",
            ),
            (
                quote!(),
                quote!(
                    async unsafe fn f(a: A) -> R {}
                ),
                "neither `unsafe` nor `extern`",
            ),
            (
                quote!(),
                quote!(
                    async extern "C" fn f(a: A) -> R {}
                ),
                "neither `unsafe` nor",
            ),
            (
                quote!(),
                quote!(
                    struct F;
                ),
                "marks a function: `async fn handle(event: Event)",
            ),
            (
                quote!(warm_up),
                quote!(
                    async fn f(a: A) -> R {}
                ),
                "as in `init = warm_up`",
            ),
            (
                quote!(init),
                quote!(
                    async fn f(a: A) -> R {}
                ),
                "expected `=`",
            ),
            (
                quote!(init = a, restored = b, init = c),
                quote!(
                    async fn f(a: A) -> R {}
                ),
                "each once at most",
            ),
        ];
        for (arguments, item, expected) in cases {
            let source = item.to_string();
            let error = expand(arguments, item).expect_err(&source).to_string();
            assert!(error.contains(expected), "{source}: {error}");
        }
    }

    #[test]
    fn the_function_stays_as_it_was_written() {
        let item = quote!(
            pub async fn handle(mut event: Event, cx: hearth::Context) -> Result<u8, Error> {
                Ok(1)
            }
        );
        let expanded = expand(quote!(init = crate::warm_up), item.clone()).expect("it is right");
        let expanded = expanded.to_string();
        assert!(expanded.starts_with(&item.to_string()), "{expanded}");
        assert!(expanded.contains("hook (crate :: warm_up)"), "{expanded}");
        for expected in ["decode :: < Event > (__event)", "context (__context)) ;"] {
            assert!(expanded.contains(expected), "{expanded}");
        }
    }

    #[test]
    fn an_instance_is_kept_only_by_who_says_so() {
        let item = quote!(
            async fn f(a: A) -> R {}
        );
        let expanded = |arguments| {
            let expanded = expand(arguments, item.clone()).expect("it is right");
            expanded.to_string()
        };
        assert!(expanded(quote!(snapshot = forget)).contains("Verdict :: Rebuild"));
        let hook = expanded(quote!(snapshot = forget, restored = renew));
        assert!(hook.contains("restored (renew)") && !hook.contains("Rebuild"));
        assert!(hook.contains("hook (forget)"));
    }
}
