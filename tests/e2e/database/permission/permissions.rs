//! A function does with a database what its permission says, and nothing else.

use e2e::guests::QUERY;
use e2e::permission::{database, every, every_way, flat, message, start};
use e2e::{Setup, Trial};
use serde_json::{Value, json};

async fn is_denied(trial: &Trial, sql: &str) {
    for result in every(trial.results(every_way(sql)).await) {
        assert!(
            message(&result).starts_with("not allowed: "),
            "{sql}: {result}"
        );
    }
}

behind_both_doors! {
    async fn a_function_runs_as_its_role(door) {
        let schema = "create table secrets (name text); insert into secrets values ('x')";
        let database = database(schema).await;
        let trial = start(door, &database, "role = \"$app\"").await;
        let who = "select current_user::text, (select count(*) from things)";
        let app = format!("{}_app", database.name);
        for _ in 0..2 {
            let steps = json!([
                { "query": who },
                { "transaction": [{ "query": who }, { "query": "select count(*) from secrets" }], "end": "commit" },
                { "execute": "delete from secrets" },
                { "batch": "insert into things values ('d'); delete from secrets" },
                { "parallel": [{ "query": who }, { "query": who }] },
            ]);
            let results = trial.results(steps).await;
            let own = json!([[app, 3]]);
            assert_eq!(results[0]["rows"], own);
            assert_eq!(results[1]["steps"][0]["rows"], own);
            for denied in [&results[1]["steps"][1], &results[2], &results[3]] {
                assert_eq!(denied["error"]["code"], "42501", "{denied}");
            }
            assert_eq!(results[4][1]["rows"], own);
        }
        assert_eq!(database.count("secrets").await, 1);
    }

    async fn a_role_cannot_be_left(door) {
        let schema = "create table secrets (name text); insert into secrets values ('x'); grant all on schema public to $app;
             create view settings as select * from pg_settings; grant all on settings to $app";
        let database = database(schema).await;
        let trial = start(door, &database, "role = \"$app\"").await;
        for escape in ESCAPES {
            is_denied(&trial, escape).await;
            let rest = json!([
                { "query": "select current_user::text" },
                { "query": "select * from secrets" },
                { "transaction": [{ "query": "select current_user::text" }, { "query": "select * from secrets" }], "end": "commit" },
            ]);
            let results = flat(trial.results(rest).await);
            let own = json!([[format!("{}_app", database.name)]]);
            assert_eq!((&results[0]["rows"], &results[2]["rows"]), (&own, &own), "{escape}");
            for denied in [&results[1], &results[3]] {
                assert_eq!(denied["error"]["code"], "42501", "{escape}: {denied}");
            }
        }
    }

    /// A failed transaction takes no settings: those from before its savepoints must be enough.
    async fn a_savepoint_leads_back_to_no_other_role(door) {
        let database = database("create table secrets (name text)").await;
        let trial = start(door, &database, "role = \"$app\"").await;
        for begin in ["savepoint a", "select 1; savepoint a"] {
            let steps = json!([{
                "transaction": [
                    { "batch": begin },
                    { "query": "select 1 / 0" },
                    { "batch": "rollback to a; insert into secrets values ('x')" },
                    { "batch": "rollback to a" },
                    { "query": "select current_user::text" },
                ],
                "end": "commit",
            }]);
            let results = flat(trial.results(steps).await);
            assert_eq!(results[1]["error"]["code"], "22012", "{begin}");
            assert_eq!(results[2]["error"]["code"], "42501", "{begin}");
            assert_eq!(results[3], Value::Null, "{begin}");
            assert_eq!(results[4]["rows"], json!([[format!("{}_app", database.name)]]), "{begin}");
        }
    }

    /// From the second statement on the role is in force, which may not make this setting itself.
    async fn what_only_the_login_may_set_holds_for_each_statement_of_a_transaction(door) {
        let database = database("").await;
        let permission = "role = \"$app\"\nsettings = { log_min_duration_statement = \"77s\" }";
        let trial = start(door, &database, permission).await;
        let both = "select current_user || ' ' || current_setting('log_min_duration_statement')";
        let query = json!({ "query": both });
        let noted = json!({ "batch": format!("insert into things {both}") });
        let steps = json!([
            query,
            { "transaction": [query, query, noted, { "pipeline": [[both, []], [both, []]] }, query], "end": "commit" },
            { "session": [query, noted, query] },
        ]);
        let all = flat(trial.results(steps).await);
        let expected = format!("{}_app 77s", database.name);
        for index in [0, 1, 2, 5] {
            assert_eq!(all[index]["rows"], json!([[expected]]), "{index}: {all:?}");
        }
        assert_eq!((&all[3], &all[6][1]), (&Value::Null, &Value::Null), "{all:?}");
        let noted = format!("select count(*) from things where name = '{expected}'");
        assert_eq!(database.value(&noted).await.as_deref(), Some("2"));
    }

    /// What a function of the database does is not in the text of a statement: it lasts for that
    /// statement and no longer.
    async fn a_role_that_was_left_by_a_function_of_the_database_is_back_with_the_next_statement(door) {
        let schema = "create function leave() returns text language sql as $$ select set_config('work_mem', '77MB', false) $$;
             create function become(who text) returns text language plpgsql as $$ begin execute format('set role %I', who); return who; end $$";
        let database = database(schema).await;
        let trial = start(door, &database, "role = \"$app\"").await;
        let become_owner = json!({ "query": "select become(session_user::text)" });
        let who = json!({ "query": "select current_user::text" });
        let steps = json!([
            become_owner, who, { "batch": "select leave()" }, who,
            { "transaction": [become_owner, who], "end": "commit" }, who,
        ]);
        let all = flat(trial.results(steps).await);
        let own = json!([[format!("{}_app", database.name)]]);
        for index in [1, 3, 5, 6] {
            assert_eq!(all[index]["rows"], own, "{index}");
        }
        let pipeline = json!([["select become(session_user::text)", []], ["insert into things select current_user::text", []]]);
        let steps = json!([{ "pipeline": pipeline }, { "transaction": [{ "pipeline": pipeline }], "end": "commit" }]);
        for result in flat(trial.results(steps).await) {
            assert_eq!(result[1]["affected"], 1, "{result}");
        }
        let who = "select string_agg(distinct name, ',') from things where length(name) > 1";
        assert_eq!(database.value(who).await.as_deref(), own[0][0].as_str());
    }

    async fn an_error_points_into_the_functions_own_text(door) {
        let database = database("").await;
        let trial = start(door, &database, "role = \"$app\"").await;
        for step in [json!({ "query": "select nonsense" }), json!({ "batch": "select nonsense" })] {
            let result = &trial.results(json!([step])).await[0];
            assert_eq!(result["error"]["code"], "42703", "{result}");
            assert_eq!(result["error"]["position"], 8, "{result}");
        }
    }

    async fn a_reader_cannot_write(door) {
        let database = database(
            "create function write() returns void language sql as $$ insert into things values ('d') $$",
        ).await;
        let trial = start(door, &database, "read_only = true").await;
        for sql in [
            "insert into things values ('d')",
            "with new as (insert into things values ('d') returning *) select * from new",
            "select name from things for update",
            "select write()",
            "explain analyze delete from things",
        ] {
            for result in every(trial.results(every_way(sql)).await) {
                let code = result["error"]["code"].as_str().unwrap_or_default();
                assert!(["25006", "25P02"].contains(&code), "{sql}: {result}");
            }
        }
        for sql in [
            "set transaction read write",
            "set local transaction read write",
            "set session transaction read write",
            "select lo_from_bytea(4711, 'x')",
            "select pg_catalog.lo_put(4711, 0, 'x')",
            "select (4711::oid).lo_unlink",
            "select q.lo_creat from abs(-1) as q",
            "copy (select 1) to program 'cat >&2'",
            "copy (select 1) to '/tmp/never'",
            "select lo_export(4711, '/tmp/never')",
            "set session characteristics as transaction read write",
            "set transaction_read_only = off",
            "set default_transaction_read_only = off",
            "select set_config('transaction_read_only', 'off', false)",
            "update pg_settings set setting = 'off' where name = 'transaction_read_only'",
            "commit",
            "rollback; begin; insert into things values ('d')",
            "drop table things",
        ] {
            is_denied(&trial, sql).await;
        }
        let count = json!({ "query": "select count(*) from things" });
        let results = flat(trial.results(json!([count, { "transaction": [count], "end": "commit" }])).await);
        assert!(results.iter().all(|result| result["rows"] == json!([[3]])), "{results}");
    }

    async fn only_listed_kinds_of_statement_run(door) {
        let database = database("").await;
        let trial = start(door, &database, "statements = [\"select\", \"insert\"]").await;
        for sql in [
            "update things set name = 'x'",
            "delete from things",
            "with gone as (delete from things returning *) select * from gone",
            "explain analyze delete from things",
            "explain (\"analyze\") delete from things",
            "select * into other from things",
            "select 1. into other",
            "select .5 into other",
            "select 1 insert into other",
            "create table other as with gone as (delete from things returning *) select * from gone",
            "select name from things for update",
            "merge into things using (select 1) as s on true when matched then delete",
            "drop table things",
            "truncate things",
            "set work_mem = '1MB'",
            "do $$ begin delete from things; end $$",
            "prepare p as delete from things",
            "begin; delete from things; commit",
            "/* select */ delete -- select\n from things",
            "select query_to_xml('delete from things returning name', true, true, '')",
            "lock things",
            "select set_config('work_mem', '1MB', true)",
            "select pg_notify('news', 'x')",
        ] {
            is_denied(&trial, sql).await;
        }
        let fine = json!([
            { "execute": "insert into things values ('d')" },
            { "query": "select count(*) from things where name <> 'delete from things'" },
            { "transaction": [{ "batch": "savepoint a; insert into things values ('e'); rollback to a" }], "end": "commit" },
        ]);
        let results = trial.results(fine).await;
        assert_eq!(results[0], json!({ "affected": 1 }));
        assert_eq!(results[1]["rows"], json!([[4]]));
        assert_eq!(results[2]["steps"], json!([null]));
        assert_eq!(database.count("things").await, 4);
    }

    /// What PostgreSQL's own functions write is found by their names. A function of the database may
    /// write all the same, unless the server is told that nothing may.
    async fn who_may_only_select_writes_by_no_function_of_postgresql(door) {
        let schema = "create sequence numbers; grant all on numbers to $app;
             create function add() returns bigint language sql as $$ insert into things values ('d') returning 1::bigint $$";
        let database = database(schema).await;
        let trial = start(door, &database, "statements = [\"select\"]").await;
        for sql in [
            "select nextval('numbers')",
            "select setval('numbers', 7)",
            "select ('numbers'::regclass).nextval",
            "select pg_logical_emit_message(false, 'a', 'b')",
            "select lo_from_bytea(4711, 'x')",
            "select pg_terminate_backend(pid) from pg_stat_activity",
            "select pg_switch_wal()",
        ] {
            is_denied(&trial, sql).await;
        }
        let added = json!([{ "query": "select add()" }]);
        assert_eq!(trial.results(added.clone()).await[0]["rows"], json!([[1]]));
        let reader = start(door, &database, "statements = [\"select\"]\nread_only = true").await;
        assert_eq!(reader.results(added).await[0]["error"]["code"], "25006");
        assert_eq!(database.value("select last_value || ' ' || is_called from numbers").await.as_deref(), Some("1 false"));
    }

    /// Two functions share a pool, and so its connections.
    async fn a_permission_is_that_of_one_function(door) {
        let database = database("").await;
        let section = format!(
            "[function.other]\ncomponent = {:?}\n[function.other.database.default]\nrole = \"{}_app\"\n",
            QUERY.compiled().display().to_string(),
            database.name
        );
        let trial = Setup::of(&QUERY).with(&database).database("pool_max", "1").toml(&section).start(door).await;
        let results = trial.results(json!([{ "query": "select current_user = session_user" }])).await;
        assert_eq!(results[0]["rows"], json!([[true]]));
    }
}

/// Ways out of a role, each of which is refused before it is sent.
const ESCAPES: &[&str] = &[
    "reset role",
    "RESET /* */ ROLE",
    "set role none",
    "set role to default",
    "set session role none",
    "set local \"role\" to 'none'",
    "-- a comment\rset role none",
    "/* a /* nested */ comment */ set role none",
    "set session authorization default",
    "reset session authorization",
    "set session_authorization to default",
    "reset all",
    "discard all",
    "commit",
    "rollback",
    "end",
    "abort",
    "commit and chain",
    "commit; select * from secrets",
    "begin; reset role",
    "select set_config('role', 'none', true)",
    "select pg_catalog.\"set_config\"('ROLE', 'none', false)",
    "select set_config('ro' || 'le', 'none', true)",
    "select set_config('ro'\n'le', 'none', true)",
    "select set_config(e'r\\157le', 'none', true)",
    "select set_config('ro\\154e', 'none', true)",
    "select set_config($$role$$, 'none', true)",
    "select set_confİg('role', 'none', true)",
    "select U&\"s\\0065t_config\"('role', 'none', true)",
    "select set_config(setting_name => 'role', new_value => 'none', is_local => true)",
    "update pg_settings set setting = 'none' where name = 'role'",
    "create view v as select * from pg_settings",
    "do $$ begin reset role; end $$",
    "do language plpgsql 'begin reset role; end'",
    "create function f() returns void language sql as 'reset role'",
    "create procedure f() language sql as 'reset role'",
    "call f()",
    "prepare p as update pg_settings set setting = 'none' where name = 'role'",
    "execute s1",
    "explain analyze execute s1",
    "create table t as execute s1",
    "select query_to_xml('select set_config(''role'', ''none'', true)', true, true, '')",
    "select * from ts_stat('select set_config(''role'', ''none'', true)::tsvector')",
    "select ('select set_config(''role'', ''none'', true)::tsvector'::text).ts_stat",
    "select q.ts_stat from lower('select 1') as q",
    "select treat('select set_config(''role'', ''none'', true)::tsvector' as ts_stat)",
    "select (array['select 1'])[1] . \"ts_stat\"",
    "select ('dbname=postgres'::text).dblink_connect",
    "select * from dblink('dbname=postgres', 'select 1') as t (a int)",
    "alter role current_user set role = 'none'",
    "set standard_conforming_strings = off",
    "select '\\'; reset role; --'",
    "set client_encoding = 'gbk'",
    "create table t as select * from secrets",
    "copy things to '/dev/null'; reset role",
];
