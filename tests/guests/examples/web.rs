//! A function behind a function URL. Requests are read with the crate `aws_lambda_events`.

use aws_lambda_events::event::lambda_function_urls::LambdaFunctionUrlRequest as Request;
use base64::prelude::{BASE64_STANDARD, Engine as _};
use hearth::{Failure, Http, Raw};

#[hearth::function]
async fn handle(request: Request) -> Result<Http<Raw>, hearth::Error> {
    let method = request.request_context.http.method.as_deref();
    let name = request.query_string_parameters.get("name");
    Ok(match (method, request.raw_path.as_deref()) {
        (Some("GET"), Some("/hello")) => {
            let text = format!("Hello, {}!", name.map_or("you", String::as_str));
            Http::new(200, Raw(text.into()))
                .header("content-type", "text/plain")
                .cookie("seen=1; HttpOnly")
        }
        (Some("PUT"), Some("/echo")) => {
            let content_type = request.headers.get("content-type");
            let content_type = content_type.and_then(|value| value.to_str().ok());
            let content_type = content_type.unwrap_or("application/octet-stream");
            Http::new(200, Raw(body(&request)?)).header("content-type", content_type)
        }
        _ => Http::new(404, Raw::default()),
    })
}

/// The body as it was sent: Lambda encodes those that are no text.
fn body(request: &Request) -> Result<Vec<u8>, Failure> {
    let body = request.body.as_deref().unwrap_or_default();
    match request.is_base64_encoded {
        true => BASE64_STANDARD
            .decode(body)
            .map_err(|error| Failure::caller("InvalidBody", error.to_string())),
        false => Ok(body.as_bytes().to_vec()),
    }
}
