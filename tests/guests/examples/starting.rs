//! Says that it starts, and then has started or never will, as its environment says.

use test_guests::program::crash::spin;

#[hearth::function(init = start)]
async fn handle(event: serde_json::Value) -> Result<serde_json::Value, hearth::Error> {
    Ok(event)
}

async fn start() -> Result<(), hearth::Error> {
    println!("an instance starts");
    if std::env::var("START").is_ok_and(|start| start == "never") {
        spin();
    }
    Ok(())
}
