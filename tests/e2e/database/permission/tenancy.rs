//! The tenant and the identity that an event comes with hold on the server, whatever the function
//! does, so that row-level security can rest on them.

use e2e::guests::QUERY;
use e2e::lambda::Event;
use e2e::{Database, Door, Pooler, Setup, Trial};
use futures_util::future::join_all;
use serde_json::{Value, json};
use std::time::Duration;

/// Notes of two tenants, of which each sees its own; `spoils` is where all may write.
async fn notes() -> Database {
    let database = Database::create().await;
    let app = format!("{}_app", database.name);
    let schema = "create role $app;
        create table notes (tenant text not null default current_setting('app.tenant'), body text);
        alter table notes enable row level security;
        create policy own on notes using (tenant = current_setting('app.tenant'))
            with check (tenant = current_setting('app.tenant'));
        create table spoils (tenant text);
        grant all on notes, spoils to $app; grant all on schema public to $app;
        insert into notes values ('blue', 'b1'), ('blue', 'b2'), ('red', 'r1'), ('', 'nobody');";
    database.run(&schema.replace("$app", &app)).await;
    database
}

const SETTINGS: &str = "settings = { \"app.tenant\" = { context = \"tenant-id\" } }";

async fn start(door: Door, database: &Database, isolation: &str) -> Trial {
    let section = format!(
        "[function.tested.database.default]\nrole = \"{}_app\"\n{SETTINGS}\n",
        database.name
    );
    let setup = Setup::of(&QUERY).with(database).isolation(isolation);
    setup.toml(&section).concurrency(8).start(door).await
}

async fn results(trial: &Trial, tenant: &str, steps: Value) -> Vec<Value> {
    let answer = trial
        .invoke_for(Some(tenant), json!({ "steps": steps }))
        .await;
    answer.value().as_array().expect("it is a list").clone()
}

const READ: &str = "select coalesce(string_agg(body, ',' order by body), '') from notes";

/// The same as data to be copied, and one by one.
const COPY: &str =
    "copy (select coalesce(string_agg(body, ',' order by body), '') from notes) to stdout";
const EACH: &str = "select body from notes";

/// What the tenant sees in a single statement, a transaction, one prepared before, a batch's, and in every other
/// way in which a function can ask.
async fn sees(trial: &Trial, tenant: &str, bodies: &str) {
    let steps = json!([
        { "query": READ },
        { "query": format!("{READ} where tenant <> $1"), "arguments": ["nobody"] },
        { "transaction": [{ "query": READ }, { "batch": "savepoint a" }, { "query": READ }], "end": "commit" },
        { "batch": "insert into spoils select tenant from notes" },
        { "query": READ },
        { "session": [{ "query": READ }, { "copy_out": COPY }, { "transaction": [{ "query": READ }], "end": "drop" }] },
        { "transaction": [{ "transaction": [{ "query": READ }, { "copy_out": COPY }], "end": "rollback" }, { "query": READ }], "end": "rollback" },
        { "copy_out": COPY },
        { "pipeline": [["select 1", []], [EACH, []]] },
        { "typed_pipeline": [["select 1", []], [format!("{EACH} where tenant <> $1"), [["nobody", "text"]]]] },
        { "typed": format!("{READ} where tenant <> $1"), "values": [["nobody", "text"]] },
        { "streamed": format!("select '' union all {EACH}"), "meanwhile": [EACH] },
        { "parallel": [{ "query": READ }, { "query": READ }] },
    ]);
    let results = results(trial, tenant, steps).await;
    let expected = json!([[bodies]]);
    let (inside, held, nested) = (&results[2]["steps"], &results[5], &results[6]["steps"]);
    for result in [
        &results[0],
        &results[1],
        &inside[0],
        &inside[2],
        &results[4],
        &held[0],
        &held[2]["steps"][0],
        &nested[0]["steps"][0],
        &nested[1],
        &results[10],
        &results[12][0],
        &results[12][1],
    ] {
        assert_eq!(result["rows"], expected, "{tenant}: {result}");
    }
    assert_eq!(results[3], Value::Null, "{tenant}");
    let copied = format!("{bodies}\n");
    for result in [&held[1], &nested[0]["steps"][1], &results[7]] {
        assert_eq!(result["text"], copied, "{tenant}: {result}");
    }
    let count = bodies.split(',').filter(|body| !body.is_empty()).count();
    for result in [&results[8][1], &results[9][1]] {
        assert_eq!(result["rows"], count, "{tenant}: {result}");
    }
    assert_eq!(results[11]["rows"], 1 + count, "{tenant}");
}

/// What a pooler in transaction mode does to its server sessions is no way to another tenant's rows.
async fn start_behind(pooler: &Pooler, door: Door, database: &Database, more: &str) -> Trial {
    let section = format!(
        "[function.tested.database.default]\nrole = \"{}_app\"\n{SETTINGS}\n{more}\n",
        database.name
    );
    let setup = Setup::of(&QUERY)
        .url(pooler.url())
        .database("prepare", "\"never\"")
        .database("pool_max", "8")
        .isolation("{ concurrent = 8 }");
    setup.toml(&section).concurrency(8).start(door).await
}

behind_both_doors! {
    async fn a_tenant_sees_its_own_rows_through_a_pooler_that_shares_sessions(door) {
        let database = notes().await;
        let Some(pooler) = Pooler::of(&database).await else { return };
        let trial = start_behind(&pooler, door, &database, "").await;
        join_all((0..24).map(|at| {
            let (tenant, bodies) = [("blue", "b1,b2"), ("red", "r1"), ("green", "")][at % 3];
            sees(&trial, tenant, bodies)
        })).await;
        let spoils = "select string_agg(tenant || ' ' || count, ',' order by tenant) from
            (select tenant, count(*) from spoils group by tenant) counts";
        assert_eq!(database.value(spoils).await.as_deref(), Some("blue 16,red 8"));
        // Whoever else uses the pooler has neither the role nor the setting.
        let left = "select current_user = session_user and coalesce(current_setting('app.tenant', true), '') = ''";
        let plain = Setup::of(&QUERY).url(pooler.url()).database("prepare", "\"never\"");
        let plain = plain.database("pool_max", "2").start(door).await;
        let both = json!({ "steps": [{ "parallel": [{ "query": left }, { "query": left }] }] });
        for result in plain.value(both).await[0].as_array().expect("both have one") {
            assert_eq!(result["rows"], json!([[true]]), "{result}");
        }
    }

    async fn a_tenant_may_only_read_through_such_a_pooler_if_it_may_only_read(door) {
        let database = notes().await;
        let Some(pooler) = Pooler::of(&database).await else { return };
        let trial = start_behind(&pooler, door, &database, "read_only = true").await;
        let write = "insert into spoils values ('mine')";
        for _ in 0..4 {
            let steps = json!([
                { "execute": write },
                { "batch": write },
                { "pipeline": [["select 1", []], [write, []]] },
                { "copy_in": "copy spoils from stdin", "pieces": ["mine\n"] },
                { "transaction": [{ "query": READ }, { "execute": write }], "end": "commit" },
                { "query": READ },
            ]);
            let results = results(&trial, "blue", steps).await;
            let inside = &results[4]["steps"];
            for refused in results[..4].iter().chain([&inside[1]]) {
                let is_refused = refused["error"]["code"] == "25006"
                    || refused["error"]["message"].as_str().is_some_and(|text| text.starts_with("not allowed: "));
                assert!(is_refused, "{refused}");
            }
            assert_eq!(inside[0]["rows"], json!([["b1,b2"]]), "{results:?}");
            assert_eq!(results[5]["rows"], json!([["b1,b2"]]), "{results:?}");
        }
        assert_eq!(database.count("spoils").await, 0);
    }

    async fn each_tenant_sees_its_own(door) {
        let database = notes().await;
        let trial = start(door, &database, "\"serial\"").await;
        for _ in 0..2 {
            sees(&trial, "blue", "b1,b2").await;
            sees(&trial, "red", "r1").await;
            sees(&trial, "o'neil\\", "").await;
        }
    }

    async fn a_tenant_writes_for_itself(door) {
        let database = notes().await;
        let trial = start(door, &database, "\"serial\"").await;
        let steps = json!([
            { "execute": "insert into notes (body) values ('r2')" },
            { "execute": "insert into notes values ('blue', 'forged')" },
            { "execute": "update notes set body = 'mine'" },
            { "batch": "delete from notes where tenant = 'blue'; insert into notes (body) values ('r3')" },
            { "transaction": [{ "execute": "insert into notes (body) values ('r4')" }], "end": "commit" },
        ]);
        let results = results(&trial, "red", steps).await;
        assert_eq!(results[0], json!({ "affected": 1 }));
        assert_eq!(results[1]["error"]["code"], "42501");
        assert_eq!(results[2], json!({ "affected": 2 }));
        let left = "select string_agg(tenant || body, ',' order by tenant, body) from notes";
        assert_eq!(
            database.value(left).await.as_deref(),
            Some("nobody,blueb1,blueb2,redmine,redmine,redr3,redr4")
        );
    }

    /// Rows that arrive in many batches, between which other statements run.
    async fn a_cursor_keeps_to_its_tenant(door) {
        let database = notes().await;
        database.run("insert into notes select 'blue', repeat('x', 500) from generate_series(1, 5000)").await;
        let trial = start(door, &database, "\"serial\"").await;
        let all = json!({ "query": "select tenant from notes, generate_series(1, 20)" });
        for (tenant, count) in [("blue", 5002 * 20), ("red", 20)] {
            let steps = json!([all, { "transaction": [all], "end": "commit" }]);
            let results = results(&trial, tenant, steps).await;
            for rows in [&results[0]["rows"], &results[1]["steps"][0]["rows"]] {
                let rows = rows.as_array().expect("they are rows");
                assert_eq!(rows.len(), count);
                assert!(rows.iter().all(|row| row[0] == tenant));
            }
        }
    }

    async fn tenants_at_the_same_time_in_one_instance_stay_apart(door) {
        let database = notes().await;
        let trial = start(door, &database, "{ concurrent = 8 }").await;
        let both = [("blue", "b1,b2"), ("red", "r1")];
        let all = (0..16).map(|number| {
            let (tenant, bodies) = both[number % 2];
            sees(&trial, tenant, bodies)
        });
        join_all(all).await;
    }

    async fn a_tenant_cannot_become_another(door) {
        let database = notes().await;
        let trial = start(door, &database, "\"serial\"").await;
        for escape in ESCAPES {
            let spoil = format!("{escape}; insert into spoils select tenant from notes");
            let steps = json!([
                { "batch": escape },
                { "query": escape },
                { "execute": escape },
                { "batch": spoil },
                { "transaction": [{ "batch": escape }, { "query": escape }, { "batch": spoil }, { "query": READ }], "end": "commit" },
                { "query": READ },
            ]);
            let results = results(&trial, "red", steps).await;
            let inside = &results[4]["steps"];
            for denied in [&results[0], &results[1], &results[2], &results[3], &inside[0], &inside[1], &inside[2]] {
                let message = denied["error"]["message"].as_str().unwrap_or_default();
                assert!(message.starts_with("not allowed: "), "{escape}: {denied}");
            }
            assert_eq!(inside[3]["rows"], json!([["r1"]]), "{escape}");
            assert_eq!(results[5]["rows"], json!([["r1"]]), "{escape}");
        }
        assert_eq!(database.count("spoils").await, 0);
    }

    /// A schema for each tenant, which PostgreSQL has other words for than the setting's name.
    async fn a_tenants_schema_is_not_left_by_another_name_of_its_setting(door) {
        let database = Database::create().await;
        for schema in ["blue", "red"] {
            let notes = "create schema $s; create table $s.notes as select text '$s' as body";
            database.run(&notes.replace("$s", schema)).await;
        }
        let section = "[function.tested.database.default]\nsettings = { search_path = { context = \"tenant-id\" } }\n";
        let trial = Setup::of(&QUERY).with(&database).toml(section).start(door).await;
        let read = json!({ "query": "select body from notes" });
        for escape in ["set schema 'blue'", "set local schema 'blue'", "set session schema 'blue'"] {
            let steps = json!([
                { "batch": format!("{escape}; select body from notes") },
                { "pipeline": [[escape, []], ["select body from notes", []]] },
                { "transaction": [{ "execute": escape }, read], "end": "commit" },
                read,
            ]);
            let results = results(&trial, "red", steps).await;
            let inside = &results[2]["steps"];
            for denied in [&results[0], &results[1], &inside[0]] {
                let text = denied.to_string();
                assert!(text.contains("not allowed: ") && text.contains("search_path"), "{escape}: {denied}");
            }
            for own in [&inside[1], &results[3]] {
                assert_eq!(own["rows"], json!([["red"]]), "{escape}");
            }
        }
    }

    async fn other_settings_are_the_functions_own(door) {
        let database = notes().await;
        let trial = start(door, &database, "\"serial\"").await;
        let steps = json!([
            { "batch": "set app.other = 'x'; set local work_mem = '1MB'" },
            { "query": "select set_config('app.more', 'y', false)" },
            { "query": "select current_setting('app.other'), current_setting('app.more'), current_setting('app.tenant')" },
        ]);
        let results = results(&trial, "red", steps).await;
        assert_eq!(results[2]["rows"], json!([["x", "y", "red"]]));
    }

    async fn an_event_without_a_tenant_reaches_no_row(door) {
        let database = notes().await;
        let trial = start(door, &database, "\"serial\"").await;
        let steps = json!([
            { "query": READ },
            { "batch": "insert into spoils values ('x')" },
            { "transaction": [{ "query": READ }], "end": "commit" },
        ]);
        let before = database.sessions().await;
        let results = trial.value(json!({ "steps": steps })).await;
        for denied in [&results[0], &results[1], &results[2]["steps"][0]] {
            let message = denied["error"]["message"].as_str().unwrap_or_default();
            assert!(message.contains("app.tenant") && message.contains("tenant id"), "{denied}");
        }
        assert_eq!(database.count("spoils").await, 0);
        assert!(before <= database.sessions().await);
        sees(&trial, "blue", "b1,b2").await;
    }
}

/// Ways to another tenant, each of which is refused before it is sent.
const ESCAPES: &[&str] = &[
    "set app.tenant = 'blue'",
    "SET LOCAL App.Tenant TO 'blue'",
    "set session \"app\".\"tenant\" = 'blue'",
    "set \"app.tenant\" = 'blue'",
    "set /* */ app /* */ . tenant = 'blue'",
    "reset app.tenant",
    "reset all",
    "discard all",
    "commit",
    "select set_config('app.tenant', 'blue', true)",
    "select \"set_config\"('APP.TENANT', 'blue', false)",
    "select set_config('app' || '.tenant', 'blue', true)",
    "with a as (select set_config(e'app.tenant', 'blue', true)) select * from a",
    "update pg_settings set setting = 'blue' where name = 'app.tenant'",
    "do $$ begin perform set_config('app.tenant', 'blue', true); end $$",
    "create function f() returns text language sql as $$ select set_config('app.tenant', 'blue', true) $$",
    "create function f() returns text language sql set app.tenant = 'blue' as $$ select '' $$",
    "alter table notes disable row level security",
    "drop policy own on notes",
    "set role none",
    "set row_security = off",
    "with s as materialized (select ('select to_tsvector(set_config(''app.tenant'', ''blue'', true))'::text).ts_stat)
        select body from s, notes",
    "select query_to_xml('select set_config(''app.tenant'', ''blue'', true)', true, true, '')",
];

/// Lambda tells who the caller is; the local host has nobody to tell.
#[tokio::test]
async fn an_identity_is_in_force_by_its_parts() {
    let database = Database::create().await;
    let section = "[function.tested.database.default.settings]\n\
        \"app.user\" = { context = \"identity\", pointer = \"/cognitoIdentityId\" }\n\
        \"app.request\" = { context = \"request-id\" }\n\
        \"app.kind\" = \"shop\"\n";
    let setup = Setup::of(&QUERY).with(&database).toml(section);
    let trial = setup.start(Door::Lambda).await;
    let sql = "select current_setting('app.user'), current_setting('app.request'), current_setting('app.kind')";
    let invoke = async |identity: Option<&str>| {
        let payload = json!({ "steps": [{ "query": sql }] }).to_string();
        let mut event = Event::new(payload, Duration::from_secs(30));
        let id = event.id.clone();
        event.headers.extend(identity.map(|identity| {
            let name = "Lambda-Runtime-Cognito-Identity".to_owned();
            (name, identity.to_owned())
        }));
        trial.lambda().send(event);
        let call = trial.lambda().answer(&id).await;
        let value: Value = serde_json::from_slice(&call.body).expect("it is JSON");
        (id, value[0].clone())
    };
    let (id, result) = invoke(Some(r#"{"cognitoIdentityId": "eu:1"}"#)).await;
    assert_eq!(result["rows"], json!([["eu:1", id, "shop"]]));
    for identity in [
        None,
        Some("{}"),
        Some(r#"{"cognitoIdentityId": ""}"#),
        Some("no JSON"),
    ] {
        let (_, result) = invoke(identity).await;
        let message = result["error"]["message"].as_str().unwrap_or_default();
        assert!(message.contains("app.user"), "{identity:?}: {result}");
    }
}
