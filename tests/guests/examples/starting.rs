//! Says that it starts, and then has started, will later or never will, as its environment says. Answers with its
//! event, unless that is "never"; goes on after its answer if that is "later".

use std::time::Duration;

use test_guests::program::crash::spin;

#[hearth::function(init = start)]
async fn handle(event: serde_json::Value) -> Result<serde_json::Value, hearth::Error> {
    if event == "never" {
        println!("it never ends");
        spin();
    }
    if event == "later" {
        hearth::wait_until(async {
            println!("it never ends");
            hearth::sleep(Duration::from_secs(600)).await;
            Ok::<_, hearth::Error>(())
        });
    }
    Ok(event)
}

async fn start() -> Result<(), hearth::Error> {
    println!("an instance starts");
    match std::env::var("START").as_deref() {
        Ok("never") => spin(),
        Ok("slowly") => std::thread::sleep(Duration::from_secs(2)),
        _ => {}
    }
    Ok(())
}
