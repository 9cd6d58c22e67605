//! Which words before an opening parenthesis call nothing that leaves anything behind in a session.
//!
//! Most of SQL's words are names of functions as well, if somebody calls one so. Such a word counts as
//! itself only where no call can stand.
//!
//! What cannot be seen here: a function of the database that is called as one of PostgreSQL's own, for
//! arguments of other types.

use std::cell::OnceCell;

use super::lexer::Token;
use super::parentheses::Parentheses;

/// A statement, with what is found out about all of it once, if that is asked for.
pub struct Statement<'a> {
    pub tokens: &'a [Token],
    parentheses: OnceCell<Parentheses>,
    first_set: OnceCell<Option<usize>>,
}

impl<'a> Statement<'a> {
    /// The one of these tokens.
    pub fn new(tokens: &'a [Token]) -> Self {
        Self {
            tokens,
            parentheses: OnceCell::new(),
            first_set: OnceCell::new(),
        }
    }

    fn partner(&self, index: usize) -> Option<usize> {
        let parentheses = self
            .parentheses
            .get_or_init(|| Parentheses::of(self.tokens));
        parentheses.partner(index)
    }

    /// Whether there is a `SET` before this place.
    fn is_behind_set(&self, index: usize) -> bool {
        let find = || self.tokens.iter().position(|token| token.is("set"));
        self.first_set
            .get_or_init(find)
            .is_some_and(|first| first < index)
    }
}

/// Whether a word before an opening parenthesis calls nothing, or nothing that leaves anything.
pub fn is_harmless(statement: &Statement, index: usize, name: &str) -> bool {
    let tokens = statement.tokens;
    if index > 0 && tokens[index - 1] == Token::Symbol('.') {
        // A function of another schema is anybody's.
        return is_builtin(name) && index > 1 && tokens[index - 2].is_one_of(&["pg_catalog"]);
    }
    is_builtin(name) || RESERVED.contains(&name) || is_clause(statement, index, name)
}

/// Whether a function of this name is PostgreSQL's own, and leaves nothing behind.
pub fn is_builtin(name: &str) -> bool {
    FUNCTIONS.binary_search(&name).is_ok()
}

/// Whether a word that could name a function is part of a clause here.
fn is_clause(statement: &Statement, index: usize, name: &str) -> bool {
    let tokens = statement.tokens;
    let is = |back: usize, words: &[&str]| {
        let at = index.checked_sub(back);
        at.is_some_and(|at| tokens[at].is_one_of(words))
    };
    let behind = &tokens[index + 1..];
    match name {
        "bernoulli" | "system" => is(1, &["tablesample"]),
        "by" => is(1, &["group", "order", "partition"]),
        "conflict" => is(1, &["on"]) && is_upsert(statement, index + 1),
        "copy" => index == 0,
        "cube" | "rollup" => is(1, &["by"]) && is(2, &["group"]),
        "explain" => index == 0,
        "filter" | "include" | "over" => follows_parenthesis(statement, index),
        // `join(select 1)` is no call: there the query would have parentheses of its own.
        "join" => behind
            .get(1)
            .is_some_and(|token| token.is_one_of(&["select", "values", "with"])),
        "key" => is(1, &["foreign", "primary"]),
        "materialized" => is(1, &["not"]) && is(2, &["as"]),
        "operator" => is_builtin_operator(behind),
        "set" if is(1, &["update"]) => is(2, &["do"]),
        "set" => tokens[0].is("update") && !statement.is_behind_set(index),
        "sets" => is(1, &["grouping"]),
        // `DELETE FROM t USING f(x)` calls.
        "brin" | "btree" | "gin" | "gist" | "hash" | "spgist" if is(1, &["using"]) => {
            tokens[0].is("create") && tokens[1].is_one_of(&["index", "unique"])
        }
        // Else it may be a window's: `OVER (PARTITION BY range(x))`.
        "hash" | "list" | "range" => {
            is(1, &["by"]) && is(2, &["partition"]) && follows_parenthesis(statement, index - 2)
        }
        _ => false,
    }
}

/// Whether an operator of PostgreSQL's own is named here; `operator(pg_catalog.*)` may be a call with a whole row.
fn is_builtin_operator(tokens: &[Token]) -> bool {
    let [
        Token::Symbol('('),
        schema,
        Token::Symbol('.'),
        Token::Symbol(first),
        ..,
    ] = tokens
    else {
        return false;
    };
    schema.is("pg_catalog") && "+-/<>=~!@#%^&|`?".contains(*first)
}

/// Whether the columns that begin here are those of an `ON CONFLICT`, and no condition of a join.
fn is_upsert(statement: &Statement, begin: usize) -> bool {
    let end = statement.partner(begin);
    let Some(behind) = end.and_then(|end| statement.tokens.get(end + 1..)) else {
        return false;
    };
    match behind.first() {
        Some(token) if token.is("where") => {
            is_done_behind(statement, statement.tokens.len() - behind.len())
        }
        first => first.is_some_and(|token| token.is("do")),
    }
}

/// Whether a `DO NOTHING` or `DO UPDATE` ends the condition that begins here. In its parentheses the word may be a
/// column's name.
fn is_done_behind(statement: &Statement, mut at: usize) -> bool {
    let tokens = statement.tokens;
    while let Some(token) = tokens.get(at) {
        let does = || {
            tokens
                .get(at + 1)
                .is_some_and(|next| next.is_one_of(&["nothing", "update"]))
        };
        match token {
            Token::Symbol('(') => match statement.partner(at) {
                Some(end) => at = end,
                None => return false,
            },
            Token::Symbol(')') => return false,
            token if token.is("conflict") => return false,
            token if token.is("do") && tokens[at - 1] != Token::Symbol('.') && does() => {
                return true;
            }
            _ => {}
        }
        at += 1;
    }
    false
}

/// Whether a parenthesis ends before this place behind which no value can begin: any but those of
/// `OPERATOR(+)` and `DISTINCT ON (a)`.
fn follows_parenthesis(statement: &Statement, index: usize) -> bool {
    let tokens = statement.tokens;
    let Some(end) = index
        .checked_sub(1)
        .filter(|end| tokens[*end] == Token::Symbol(')'))
    else {
        return false;
    };
    let Some(begin) = statement.partner(end) else {
        return false;
    };
    match &tokens[..begin] {
        [.., distinct, on] if on.is("on") => !distinct.is("distinct"),
        before => !before.last().is_some_and(|before| before.is("operator")),
    }
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

/// Functions of PostgreSQL's own that leave nothing behind in the session but what is looked after
/// elsewhere (the state of sequences), in order. Of many it is so by what they are: they are immutable.
#[rustfmt::skip]
const FUNCTIONS: [&str; 546] = [
    "abbrev", "abs", "acldefault", "acos", "acosd", "acosh", "age", "any_value", "area",
    "array_agg", "array_append", "array_cat", "array_dims", "array_fill", "array_length",
    "array_lower", "array_ndims", "array_position", "array_positions", "array_prepend",
    "array_remove", "array_replace", "array_to_json", "array_to_string", "array_to_tsvector",
    "array_upper", "ascii", "asin", "asind", "asinh", "atan", "atan2", "atan2d", "atand", "atanh",
    "avg", "bit", "bit_and", "bit_count", "bit_length", "bit_or", "bit_xor", "bool", "bool_and",
    "bool_or", "box", "bpchar", "btrim", "cardinality", "cast", "cbrt", "ceil", "ceiling", "center",
    "char", "char_length", "character_length", "chr", "cidr", "circle", "clock_timestamp",
    "coalesce", "col_description", "concat", "concat_ws", "convert_from", "convert_to", "corr",
    "cos", "cosd", "cosh", "cot", "cotd", "count", "covar_pop", "covar_samp", "cume_dist",
    "current_database", "current_query", "current_schema", "current_schemas", "current_setting",
    "date", "date_bin", "date_part", "date_trunc", "datemultirange", "daterange",
    "daterange_canonical", "daterange_subdiff", "decode", "degrees", "dense_rank", "dexp",
    "diagonal", "diameter", "div", "dround", "dtrunc", "encode", "enum_first", "enum_last",
    "enum_range", "every", "exp", "extract", "factorial", "family", "first_value", "float4",
    "float8", "floor", "format", "format_type", "gcd", "gen_random_uuid", "generate_series",
    "generate_subscripts", "get_bit", "get_byte", "get_current_ts_config", "greatest", "grouping",
    "has_any_column_privilege", "has_column_privilege", "has_database_privilege",
    "has_function_privilege", "has_language_privilege", "has_schema_privilege",
    "has_sequence_privilege", "has_table_privilege", "has_tablespace_privilege",
    "has_type_privilege", "hash_record", "hashtext", "hashtextextended", "height", "host",
    "hostmask", "inet_client_addr", "inet_client_port", "inet_merge", "inet_same_family",
    "inet_server_addr", "inet_server_port", "initcap", "int2", "int4", "int4multirange",
    "int4range", "int4range_canonical", "int4range_subdiff", "int8", "int8multirange", "int8range",
    "int8range_canonical", "int8range_subdiff", "interval", "is_normalized", "isclosed", "isempty",
    "isfinite", "ishorizontal", "isopen", "isparallel", "isperp", "isvertical", "json_agg",
    "json_array_elements", "json_array_elements_text", "json_array_length", "json_build_array",
    "json_build_object", "json_each", "json_each_text", "json_extract_path",
    "json_extract_path_text", "json_object", "json_object_agg", "json_object_keys",
    "json_populate_record", "json_populate_recordset", "json_strip_nulls", "json_to_record",
    "json_to_recordset", "json_to_tsvector", "json_typeof", "jsonb_agg", "jsonb_array_elements",
    "jsonb_array_elements_text", "jsonb_array_length", "jsonb_build_array", "jsonb_build_object",
    "jsonb_concat", "jsonb_contains", "jsonb_delete", "jsonb_delete_path", "jsonb_each",
    "jsonb_each_text", "jsonb_extract_path", "jsonb_extract_path_text", "jsonb_insert",
    "jsonb_object", "jsonb_object_agg", "jsonb_object_keys", "jsonb_path_exists",
    "jsonb_path_exists_tz", "jsonb_path_match", "jsonb_path_match_tz", "jsonb_path_query",
    "jsonb_path_query_array", "jsonb_path_query_array_tz", "jsonb_path_query_first",
    "jsonb_path_query_first_tz", "jsonb_path_query_tz", "jsonb_populate_record",
    "jsonb_populate_recordset", "jsonb_pretty", "jsonb_set", "jsonb_set_lax", "jsonb_strip_nulls",
    "jsonb_to_record", "jsonb_to_recordset", "jsonb_to_tsvector", "jsonb_typeof", "justify_days",
    "justify_hours", "justify_interval", "lag", "last_value", "lcm", "lead", "least", "left",
    "length", "like", "line", "ln", "localtime", "localtimestamp", "log", "log10", "lower",
    "lower_inc", "lower_inf", "lpad", "lseg", "ltrim", "macaddr", "macaddr8", "macaddr8_set7bit",
    "make_date", "make_interval", "make_time", "make_timestamp", "make_timestamptz", "makeaclitem",
    "masklen", "max", "md5", "min", "min_scale", "mod", "mode", "multirange", "name", "netmask",
    "network", "nextval", "normalize", "notlike", "now", "npoints", "nth_value", "ntile", "nullif",
    "num_nonnulls", "num_nulls", "numeric_div_trunc", "numeric_exp", "numeric_ln", "numeric_log",
    "numeric_sqrt", "nummultirange", "numnode", "numrange", "numrange_subdiff", "obj_description",
    "octet_length", "oid", "overlaps", "overlay", "parse_ident", "path", "pclose", "percent_rank",
    "percentile_cont", "percentile_disc", "pg_advisory_xact_lock", "pg_advisory_xact_lock_shared",
    "pg_backend_pid", "pg_blocking_pids", "pg_client_encoding", "pg_collation_for",
    "pg_column_compression", "pg_column_size", "pg_conf_load_time", "pg_current_snapshot",
    "pg_current_wal_lsn", "pg_current_xact_id", "pg_current_xact_id_if_assigned",
    "pg_database_size", "pg_describe_object", "pg_encoding_max_length", "pg_function_is_visible",
    "pg_get_constraintdef", "pg_get_expr", "pg_get_function_arguments",
    "pg_get_function_identity_arguments", "pg_get_function_result", "pg_get_functiondef",
    "pg_get_indexdef", "pg_get_keywords", "pg_get_partkeydef", "pg_get_ruledef",
    "pg_get_serial_sequence", "pg_get_statisticsobjdef", "pg_get_triggerdef", "pg_get_userbyid",
    "pg_get_viewdef", "pg_has_role", "pg_identify_object", "pg_indexes_size", "pg_is_in_recovery",
    "pg_is_other_temp_schema", "pg_last_wal_receive_lsn", "pg_last_wal_replay_lsn",
    "pg_last_xact_replay_timestamp", "pg_lsn", "pg_notify", "pg_partition_ancestors",
    "pg_partition_root", "pg_partition_tree", "pg_postmaster_start_time", "pg_relation_filenode",
    "pg_relation_filepath", "pg_relation_size", "pg_sequence_last_value", "pg_size_bytes",
    "pg_size_pretty", "pg_sleep", "pg_sleep_for", "pg_sleep_until", "pg_snapshot_xip",
    "pg_snapshot_xmax", "pg_snapshot_xmin", "pg_table_is_visible", "pg_table_size",
    "pg_tablespace_size", "pg_total_relation_size", "pg_trigger_depth", "pg_try_advisory_xact_lock",
    "pg_try_advisory_xact_lock_shared", "pg_type_is_visible", "pg_typeof", "pg_visible_in_snapshot",
    "pg_wal_lsn_diff", "pg_walfile_name", "pg_walfile_name_offset", "pg_xact_commit_timestamp",
    "pg_xact_status", "phraseto_tsquery", "pi", "plainto_tsquery", "point", "polygon", "popen",
    "position", "pow", "power", "querytree", "quote_ident", "quote_literal", "quote_nullable",
    "radians", "radius", "random", "range_agg", "range_intersect_agg", "range_merge", "rank",
    "regexp_count", "regexp_instr", "regexp_like", "regexp_match", "regexp_matches",
    "regexp_replace", "regexp_split_to_array", "regexp_split_to_table", "regexp_substr",
    "regr_avgx", "regr_avgy", "regr_count", "regr_intercept", "regr_r2", "regr_slope", "regr_sxx",
    "regr_sxy", "regr_syy", "repeat", "replace", "reverse", "right", "round", "row", "row_number",
    "row_security_active", "row_to_json", "rpad", "rtrim", "scale", "set_bit", "set_byte",
    "set_masklen", "setval", "setweight", "sha224", "sha256", "sha384", "sha512",
    "shobj_description", "sign", "similar_escape", "similar_to_escape", "sin", "sind", "sinh",
    "slope", "split_part", "sqrt", "starts_with", "statement_timestamp", "stddev", "stddev_pop",
    "stddev_samp", "string_agg", "string_to_array", "string_to_table", "strip", "strpos", "substr",
    "substring", "sum", "tan", "tand", "tanh", "text", "time", "timeofday", "timestamp",
    "timestamptz", "timetz", "timezone", "to_ascii", "to_char", "to_date", "to_hex", "to_json",
    "to_jsonb", "to_number", "to_regclass", "to_regcollation", "to_regnamespace", "to_regoper",
    "to_regproc", "to_regprocedure", "to_regrole", "to_regtype", "to_timestamp", "to_tsquery",
    "to_tsvector", "transaction_timestamp", "translate", "trim", "trim_array", "trim_scale",
    "trunc", "ts_debug", "ts_delete", "ts_filter", "ts_headline", "ts_lexize", "ts_parse",
    "ts_rank", "ts_rank_cd", "ts_token_type", "tsmultirange", "tsquery_phrase", "tsrange",
    "tsrange_subdiff", "tstzmultirange", "tstzrange", "tstzrange_subdiff", "tsvector_to_array",
    "txid_current", "txid_current_if_assigned", "txid_current_snapshot", "txid_snapshot_xip",
    "txid_snapshot_xmax", "txid_snapshot_xmin", "txid_status", "txid_visible_in_snapshot", "unistr",
    "unnest", "upper", "upper_inc", "upper_inf", "uuidv4", "uuidv7", "var_pop", "var_samp",
    "varbit", "varchar", "variance", "version", "websearch_to_tsquery", "width", "width_bucket",
    "xid", "xml_is_well_formed", "xml_is_well_formed_content", "xml_is_well_formed_document",
    "xmlagg", "xmlcomment", "xmlconcat", "xmlelement", "xmlexists", "xmlforest", "xmlparse",
    "xmlpi", "xmlroot", "xmlserialize", "xmltable", "xmlvalidate", "xpath", "xpath_exists",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_in_order() {
        assert!(FUNCTIONS.is_sorted());
    }
}
