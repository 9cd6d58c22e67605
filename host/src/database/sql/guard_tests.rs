//! Ways out of a permission, each of which must be found; and everyday SQL, in which none must be.

use super::*;

fn found(sql: &str) -> Option<Risk> {
    let protected = [
        "app.tenant",
        "search_path",
        "timezone",
        "xmloption",
        "work_mem",
    ];
    first(sql, &protected.map(str::to_owned), false)
}

fn first(sql: &str, protected: &[String], read_only: bool) -> Option<Risk> {
    risks(sql, protected, read_only).into_iter().next()
}

#[test]
fn a_change_of_a_protected_setting_is_found_however_it_is_written() {
    for sql in [
        "SET ROLE admin",
        "set session role admin",
        "set local role none",
        "set role to admin",
        "SET LOCAL \"role\" = 'admin'",
        "set \"ROLE\" to admin",
        "reset role",
        "RESET \"role\"",
        "set session authorization default",
        "set session session authorization admin",
        "set local session authorization admin",
        "reset session authorization",
        "set session_authorization = 'admin'",
        "reset all",
        "discard all",
        "set app.tenant = 'other'",
        "set APP.Tenant to 'other'",
        "set local app . tenant = 'other'",
        "set /* x */ session \"app\".\"tenant\" = 'other'",
        "set \"app.tenant\" = 'other'",
        "reset app.tenant",
        "select 1; set app.tenant = 'other'; select 2",
        "set\u{b}role admin",
        "-- harmless\rset role admin",
        "/* /* */ set */ set role admin",
        "set transaction read write",
        "set transaction isolation level serializable, read write",
        "set session characteristics as transaction read write",
        "set local transaction read write",
        "set session transaction read write",
        "set local session characteristics as transaction read write",
        "set transaction_read_only = off",
        "set schema 'b'",
        "set local schema 'b'",
        "set session /* */ schema 'b'",
        "set time zone 'UTC'",
        "set local time zone interval '1' hour",
        "reset time zone",
        "set xml option document",
        "set sort_mem = 1",
        "reset sort_mem",
        "select set_config('Sort_Mem', '1', true)",
        "set session work_mem from current",
        "set default_transaction_read_only to off",
        "set names 'gbk'",
        "set client_encoding to sjis",
        "set standard_conforming_strings = off",
        "set local backslash_quote = on",
        "set row_security = off",
        "select set_config('role', 'admin', true)",
        "select pg_catalog.set_config('role', 'admin', true)",
        "select \"set_config\"('app.tenant', 'other', true)",
        "select pg_catalog . \"set_config\" /**/ ( 'APP.TENANT' , 'other', true)",
        "alter role current_user set app.tenant = 'other'",
        "alter database d set role = 'admin'",
        "alter database mapping set role = 'admin'",
        "alter user mapping set app.tenant = 'x'",
    ] {
        assert!(
            matches!(found(sql), Some(Risk::Setting(_))),
            "{sql}: {:?}",
            found(sql)
        );
    }
}

#[test]
fn a_change_of_who_knows_what_is_found() {
    for sql in [
        "select set_config($1, 'other', true)",
        "select set_config('app.' || 'tenant', 'other', true)",
        "select set_config('app.'\n'tenant', 'other', true)",
        "select set_config(e'app.\\x74enant', 'other', true)",
        "select set_config('app.\\x74enant', 'other', true)",
        "select set_config('ro\\154e', 'admin', true)",
        "select set_config($$app.tenant$$, 'other', true)",
        "select set_config(setting_name => 'app.tenant', new_value => 'x', is_local => true)",
        "select set_config(name, 'x', true) from t",
        "create aggregate a (text, text, bool) (sfunc = set_config)",
        "update pg_settings set setting = 'other'",
        "update pg_catalog.\"pg_settings\" set setting = 'x' where name = 'role'",
        "with x as (select 1) update pg_settings set setting = 'x'",
        "create view v as select * from pg_settings",
        "insert into pg_settings values (1)",
        "(with x as (update pg_settings set setting = 'x' returning 1) select 1)",
        "copy (update pg_settings set setting = 'x' returning 1) to stdout",
        "merge into pg_settings using t on true when matched then do nothing",
        "set $1 = 'x'",
    ] {
        assert_eq!(found(sql), Some(Risk::UnknownSetting), "{sql}");
    }
}

#[test]
fn what_cannot_be_read_for_certain_is_found() {
    for sql in [
        "select U&\"s\\0065t_config\"('role', 'admin', true)",
        "select u&\"set!005fconfig\" uescape '!' ('role', 'admin', true)",
        "select '\\'; set role admin; --'",
        "select 1 where a = '\\' or set_config('role','admin',true) = '\\'",
        "select b'1''\\' from t",
        "select set_confİg('role', 'admin', true)",
    ] {
        assert!(
            matches!(found(sql), Some(Risk::Ambiguous(_) | Risk::Setting(_))),
            "{sql}: {:?}",
            found(sql)
        );
    }
}

#[test]
fn what_settings_are_kept_for_is_told_from_a_setting() {
    for sql in [
        "create user u",
        "create database d",
        "create role mapping",
        "create user mapping superuser login",
        "alter role r rename to s",
    ] {
        assert!(matches!(found(sql), Some(Risk::Keeper(_))), "{sql}");
    }
    for sql in [
        "create user mapping for u server s",
        "alter user mapping for u server s options (set a 'b')",
        "create table role (n int)",
    ] {
        assert_eq!(found(sql), None, "{sql}");
    }
}

#[test]
fn text_that_is_run_is_found() {
    for sql in [
        "select query_to_xml('set role admin', true, false, '')",
        "select \"query_to_xml\" ('delete from t', true, false, '')",
        "select * from ts_stat('select set_config(''role'', ''x'', false)::tsvector')",
        "select dblink_exec('dbname=x', 'drop table t')",
        "select ('select 1'::text).ts_stat",
        "select $1.ts_stat",
        "select c[1].ts_stat from t",
        "select q . /* */ \"ts_stat\" from lower('select 1') as q",
        "select ('dbname=x'::text).dblink_connect",
        "select * from crosstab4('select 1')",
        "select * from pgr_dijkstra('select * from t', 1, 2)",
        "select * from _pgr_ksp('select * from t')",
        "select st_mapalgebra(rast, 1, null, 'x') from t",
        "select cron.schedule('* * * * *', 'delete from t')",
        "select \"cron\" . \"schedule\" ('x', '* * * * *', 'delete from t')",
        "select schedule('* * * * *', 'delete from t')",
        "select cron.schedule_in_database('x', '* * * * *', 'delete from t', 'd')",
        "select cron.alter_job(1, command := 'delete from t')",
        "select aws_s3.query_export_to_s3('delete from t returning 1', 'x')",
        "select aws_lambda.invoke('x', '{}')",
        "select pgivm.create_immv('x', 'select 1')",
        "select * from ag_catalog.cypher('g', $$ match (n) delete n $$) as (n agtype)",
        "select * from cypher('g', $$ match (n) delete n $$) as (n agtype)",
        "select treat('select 1' as ts_stat)",
        "select TREAT /**/ ('s'::regclass as setof a.\"nextval\"(1))",
        "execute s1",
        "explain execute s1",
        "create table t as execute s1(1)",
        "create table a.b.c as execute function",
        "create table t as execute procedure with no data",
        "explain execute function(1)",
    ] {
        assert!(
            matches!(found(sql), Some(Risk::Code(_))),
            "{sql}: {:?}",
            found(sql)
        );
    }
}

#[test]
fn everyday_statements_have_no_risk() {
    for sql in [
        "",
        "select 1",
        "select 'set role admin', \"set role\", $$reset all$$ from t -- set role x",
        "select current_setting('app.tenant')",
        "select set_config('statement_timeout', '1', true)",
        "select name, setting from pg_settings",
        "(select name from pg_settings) union all select 'x'",
        "copy (select name from pg_settings) to stdout",
        "set local lock_timeout = '1s'; set statement_timeout to 100; set time.zone = 'UTC'",
        "set transaction isolation level serializable, read only, deferrable",
        "set local transaction read only",
        "set session characteristics as transaction isolation level serializable",
        "set schema.x = 'y'; set local names.x = 'y'; set transaction.x = 'y'; set local.x = 'y'",
        "select ts_stat, t.ts_statistics, treat, \"treat\"(1) from t",
        "insert into treat (a) values (1)",
        "create table treat (a int)",
        "select own.schedule(1), schedule, t.invoke, cron.job.schedule from t, cron.job",
        "select lo_put(1, 0, '')",
        "set constraints all deferred",
        "reset lock_timeout",
        "discard temp",
        "update t set role = 'x' where tenant = $1",
        "insert into role (app, tenant) values (1, 2)",
        "select e'it\\'s', E'it''s a \\'test\\'', 'a\\b', n'x' like '%\\_'",
        "grant execute on function f() to x",
        "create trigger x before insert on t execute function f()",
        "select role, session from t as x (role)",
        "savepoint a; rollback to a",
    ] {
        assert_eq!(found(sql), None, "{sql}");
    }
}

/// Also those that begin like something else, and longer ones, which PostgreSQL cuts short.
#[test]
fn a_setting_is_found_by_whatever_name() {
    let long = format!("app.{}", "x".repeat(limits::IDENTIFIER_BYTES_MAX - 4));
    let protected = [
        &long,
        "local.x",
        "session.x",
        "transaction.x",
        "constraints.x",
        "names.x",
        "sort_mem",
        "default_transaction_isolation",
        "default_transaction_deferrable",
    ]
    .map(str::to_owned);
    for sql in [
        &format!("set \"{long}\" = 'y'"),
        &format!("set \"{long}yz\" = 'y'"),
        "set local.x = 'y'",
        "set local local.x = 'y'",
        "set session.x to 'y'",
        "set session session.x to 'y'",
        "set transaction.x = 'y'",
        "set local constraints . x = 'y'",
        "set names.x = 'y'",
        "set work_mem = 1",
        "set session characteristics as transaction isolation level serializable",
        "set local session characteristics as transaction not deferrable",
    ] {
        let found = first(sql, &protected, false);
        assert!(matches!(found, Some(Risk::Setting(_))), "{sql}: {found:?}");
    }
}

#[test]
fn what_writes_where_only_reads_are_allowed_is_found() {
    for sql in [
        "select lo_from_bytea(0, '')",
        "select pg_catalog . \"lo_put\"(1, 0, '')",
        "select (1::oid).lo_unlink",
        "select q.lo_creat from abs(-1) as q",
        "select lowrite(lo_open(1, 131072), '')",
        "select nextval('s')",
        "select ('s'::regclass).nextval",
        "select pg_catalog.setval('s', 1)",
        "select pg_logical_emit_message(false, 'a', 'b')",
        "select pg_stat_reset_shared('wal')",
        "select pg_backup_start('a')",
    ] {
        let found = first(sql, &[], true);
        assert!(matches!(found, Some(Risk::Write(_))), "{sql}: {found:?}");
        assert_eq!(first(sql, &[], false), None, "{sql}");
    }
    for sql in [
        "select lo_get(1)",
        "select loread(lo_open(1, 262144), 9)",
        "select currval('s'), lastval(), nextval from t",
    ] {
        assert_eq!(first(sql, &[], true), None, "{sql}");
    }
}

#[test]
fn a_risk_hides_no_other_behind_it() {
    let sql = "select set_config('role', 'x', true), '\\''; execute s1; select lo_unlink(1); \
        reset role; set names 'x'";
    let found = risks(sql, &[], true);
    let setting = |name: &str| Risk::Setting(name.to_owned());
    assert!(matches!(found[1], Risk::Ambiguous(_)), "{found:?}");
    assert_eq!(found[0], setting("role"));
    assert_eq!(
        risks(&sql.replace("'\\''", "1"), &[], true)[1..],
        [
            Risk::Code("EXECUTE".to_owned()),
            Risk::Write("lo_unlink".to_owned()),
            setting("role"),
            setting("client_encoding"),
        ]
    );
}

#[test]
fn no_text_is_too_deep_to_be_judged() {
    for words in ["local ", "session ", "local session "] {
        let sql = format!("set {}role = x", words.repeat(50_000));
        assert_eq!(risks(&sql, &[], false), [Risk::Setting("role".to_owned())]);
    }
}

/// Anything but one pass over it would take seconds.
#[test]
fn the_longest_name_is_read_in_one_pass() {
    let sql = format!("set {}a = 1", "a.".repeat(500_000));
    assert_eq!(found(&sql), None);
}
