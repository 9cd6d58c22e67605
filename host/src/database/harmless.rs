//! Which words before an opening parenthesis call nothing that leaves anything behind in a session.
//!
//! Most of SQL's words are names of functions as well, if somebody calls one so. Such a word counts as
//! itself only where no call can stand.
//!
//! What cannot be seen here: a function of the database that is called as one of PostgreSQL's own, for
//! arguments of other types.

use super::sql::lexer::Token;

/// Whether a word before an opening parenthesis calls nothing, or nothing that leaves anything.
pub fn is_harmless(tokens: &[Token], index: usize, name: &str) -> bool {
    if index > 0 && tokens[index - 1] == Token::Symbol('.') {
        // A function of another schema is anybody's.
        return is_builtin(name) && index > 1 && tokens[index - 2].is_one_of(&["pg_catalog"]);
    }
    is_builtin(name) || RESERVED.contains(&name) || is_clause(tokens, index, name)
}

/// Whether a function of this name is PostgreSQL's own, and leaves nothing behind.
pub fn is_builtin(name: &str) -> bool {
    FUNCTIONS.binary_search(&name).is_ok()
}

/// Whether a word that could name a function is part of a clause here.
fn is_clause(tokens: &[Token], index: usize, name: &str) -> bool {
    let is = |back: usize, words: &[&str]| {
        let at = index.checked_sub(back);
        at.is_some_and(|at| tokens[at].is_one_of(words))
    };
    let (before, behind) = (&tokens[..index], &tokens[index + 1..]);
    match name {
        "by" => is(1, &["group", "order", "partition"]),
        "conflict" => is(1, &["on"]) && is_upsert(behind),
        "copy" => index == 0,
        "cube" | "rollup" => is(1, &["by"]) && is(2, &["group"]),
        "filter" | "include" | "over" => follows_parenthesis(before),
        // `join(select 1)` is no call: there the query would have parentheses of its own.
        "join" => behind
            .get(1)
            .is_some_and(|token| token.is_one_of(&["select", "values", "with"])),
        "key" => is(1, &["foreign", "primary"]),
        "materialized" => is(1, &["not"]) && is(2, &["as"]),
        "set" if is(1, &["update"]) => is(2, &["do"]),
        "set" => tokens[0].is("update") && !before.iter().any(|token| token.is("set")),
        "sets" => is(1, &["grouping"]),
        // `DELETE FROM t USING f(x)` calls.
        "brin" | "btree" | "gin" | "gist" | "hash" | "spgist" if is(1, &["using"]) => {
            tokens[0].is("create") && tokens[1].is_one_of(&["index", "unique"])
        }
        // Else it may be a window's: `OVER (PARTITION BY range(x))`.
        "hash" | "list" | "range" => {
            is(1, &["by"]) && is(2, &["partition"]) && follows_parenthesis(&before[..index - 2])
        }
        _ => false,
    }
}

/// Whether the columns that begin here are those of an `ON CONFLICT`, and no condition of a join.
fn is_upsert(tokens: &[Token]) -> bool {
    let mut depth = 0;
    let end = tokens.iter().position(|token| {
        match token {
            Token::Symbol('(') => depth += 1,
            Token::Symbol(')') => depth -= 1,
            _ => {}
        }
        depth == 0
    });
    let Some(behind) = end.and_then(|end| tokens.get(end + 1..)) else {
        return false;
    };
    match behind.first() {
        Some(token) if token.is("where") => {
            let mut words = behind.iter();
            let next = words.find(|token| token.is_one_of(&["conflict", "do"]));
            next.is_some_and(|token| token.is("do"))
        }
        first => first.is_some_and(|token| token.is("do")),
    }
}

/// Whether these tokens end with a parenthesis behind which no value can begin: any but that of
/// `OPERATOR(+)`.
fn follows_parenthesis(tokens: &[Token]) -> bool {
    if tokens.last() != Some(&Token::Symbol(')')) {
        return false;
    }
    let mut depth = 0;
    let begin = tokens.iter().rposition(|token| {
        match token {
            Token::Symbol(')') => depth += 1,
            Token::Symbol('(') => depth -= 1,
            _ => {}
        }
        depth == 0
    });
    let before = begin.and_then(|begin| begin.checked_sub(1));
    begin.is_some() && !before.is_some_and(|before| tokens[before].is("operator"))
}

/// Words that name no function unless they are quoted.
#[rustfmt::skip]
const RESERVED: [&str; 44] = [
    "all", "and", "any", "array", "as", "between", "bit", "case", "char", "character", "check",
    "decimal", "distinct", "else", "except", "exists", "foreign", "from", "group", "grouping",
    "having", "in", "intersect", "lateral", "limit", "not", "numeric", "offset", "on", "or",
    "returning", "select", "some", "then", "time", "timestamp", "union", "unique", "using",
    "values", "varchar", "when", "where", "with",
];

/// Functions of PostgreSQL's own that leave nothing behind in the session, in order.
#[rustfmt::skip]
const FUNCTIONS: [&str; 282] = [
    "abs", "acos", "age", "any_value", "array_agg", "array_append", "array_cat", "array_dims",
    "array_fill", "array_length", "array_lower", "array_ndims", "array_position",
    "array_positions", "array_prepend", "array_remove", "array_replace", "array_to_json",
    "array_to_string", "array_upper", "ascii", "asin", "atan", "atan2", "avg", "bit_and",
    "bit_count", "bit_length", "bit_or", "bool_and", "bool_or", "btrim", "cardinality", "cast",
    "cbrt", "ceil", "ceiling", "char_length", "character_length", "chr", "clock_timestamp",
    "coalesce", "col_description", "concat", "concat_ws", "convert_from", "convert_to", "corr",
    "cos", "count", "cume_dist", "current_database", "current_schema", "current_schemas",
    "current_setting", "date", "date_bin", "date_part", "date_trunc", "daterange", "decode",
    "degrees", "dense_rank", "div", "encode", "every", "exp", "extract", "factorial", "family",
    "first_value", "floor", "format", "format_type", "gcd", "gen_random_uuid", "generate_series",
    "generate_subscripts", "get_bit", "get_byte", "greatest", "grouping", "has_schema_privilege",
    "has_table_privilege", "host", "inet_server_addr", "initcap", "int4range", "int8range",
    "isempty", "isfinite", "json_agg", "json_array_elements", "json_array_elements_text",
    "json_array_length", "json_build_array", "json_build_object", "json_each", "json_each_text",
    "json_object", "json_object_agg", "json_object_keys", "json_populate_record",
    "json_populate_recordset", "json_strip_nulls", "json_to_record", "json_to_recordset",
    "json_typeof", "jsonb_agg", "jsonb_array_elements", "jsonb_array_elements_text",
    "jsonb_array_length", "jsonb_build_array", "jsonb_build_object", "jsonb_delete_path",
    "jsonb_each", "jsonb_each_text", "jsonb_insert", "jsonb_object", "jsonb_object_agg",
    "jsonb_object_keys", "jsonb_path_exists", "jsonb_path_match", "jsonb_path_query",
    "jsonb_path_query_array", "jsonb_path_query_first", "jsonb_populate_record",
    "jsonb_populate_recordset", "jsonb_pretty", "jsonb_set", "jsonb_strip_nulls",
    "jsonb_to_record", "jsonb_to_recordset", "jsonb_typeof", "justify_days", "justify_hours",
    "justify_interval", "lag", "last_value", "lcm", "lead", "least", "left", "length", "ln",
    "localtime", "localtimestamp", "log", "lower", "lower_inc", "lpad", "ltrim", "make_date",
    "make_interval", "make_time", "make_timestamp", "make_timestamptz", "masklen", "max", "md5",
    "min", "min_scale", "mod", "mode", "network", "normalize", "now", "nth_value", "ntile",
    "nullif", "num_nonnulls", "num_nulls", "numrange", "obj_description", "octet_length",
    "overlay", "parse_ident", "percent_rank", "percentile_cont", "percentile_disc",
    "pg_backend_pid", "pg_current_xact_id", "pg_database_size", "pg_get_viewdef",
    "pg_relation_size", "pg_size_pretty", "pg_sleep", "pg_table_size", "pg_total_relation_size",
    "pg_typeof", "phraseto_tsquery", "pi", "plainto_tsquery", "position", "power", "quote_ident",
    "quote_literal", "radians", "random", "range_agg", "rank", "regexp_count", "regexp_instr",
    "regexp_like", "regexp_match", "regexp_matches", "regexp_replace", "regexp_split_to_array",
    "regexp_split_to_table", "regexp_substr", "repeat", "replace", "reverse", "right", "round",
    "row", "row_number", "row_to_json", "rpad", "rtrim", "scale", "set_bit", "set_byte",
    "set_masklen", "setweight", "sha224", "sha256", "sha384", "sha512", "sign", "sin",
    "split_part", "sqrt", "starts_with", "statement_timestamp", "stddev", "stddev_pop",
    "stddev_samp", "string_agg", "string_to_array", "string_to_table", "strpos", "substr",
    "substring", "sum", "tan", "timeofday", "to_char", "to_date", "to_hex", "to_json", "to_jsonb",
    "to_number", "to_regclass", "to_regtype", "to_timestamp", "to_tsquery", "to_tsvector",
    "transaction_timestamp", "translate", "trim", "trim_array", "trim_scale", "trunc",
    "ts_headline", "ts_rank", "tsrange", "tstzrange", "txid_current", "unistr", "unnest", "upper",
    "upper_inc", "uuidv4", "uuidv7", "var_pop", "var_samp", "variance", "version",
    "websearch_to_tsquery", "width_bucket", "xmlagg",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_in_order() {
        assert!(FUNCTIONS.is_sorted());
    }
}
