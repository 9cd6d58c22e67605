//! The work that is measured, as a native function: `lambda_runtime` with `deadpool-postgres`, in
//! the way their own documentation shows. With the argument `one-thread` it runs on one, which
//! that documentation does not mention.

use deadpool_postgres::{Manager, ManagerConfig, Pool, RecyclingMethod};
use lambda_runtime::{Error, LambdaEvent, run, service_fn};
use serde_json::{Value, json};
use tokio_postgres::NoTls;

fn main() -> Result<(), Error> {
    let mut runtime = match std::env::args().nth(1).as_deref() {
        Some("one-thread") => tokio::runtime::Builder::new_current_thread(),
        // What `#[tokio::main]` does.
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    runtime.enable_all().build()?.block_on(serve())
}

async fn serve() -> Result<(), Error> {
    let config: tokio_postgres::Config = std::env::var("DATABASE_URL")?.parse()?;
    let recycling = ManagerConfig {
        recycling_method: RecyclingMethod::Fast,
    };
    let pool = Pool::builder(Manager::from_config(config, NoTls, recycling))
        .max_size(8)
        .build()?;
    run(service_fn(|event: LambdaEvent<Value>| {
        handle(&pool, event.payload)
    }))
    .await
}

async fn handle(pool: &Pool, event: Value) -> Result<Value, Error> {
    let Some(id) = event.get("id").and_then(Value::as_i64) else {
        return Ok(event);
    };
    let client = pool.get().await?;
    let statement = client
        .prepare_cached("select id, name from bench_item where id = $1")
        .await?;
    let row = client.query_one(&statement, &[&id]).await?;
    Ok(json!({ "id": row.get::<_, i64>(0), "name": row.get::<_, String>(1) }))
}
