//! Values of every type that is not made of others, and the types of which there are none.

/// The types of which PostgreSQL itself takes no value from a client. What is made of them cannot
/// go both ways either.
pub const EXCEPTIONS: &[&str] = &[
    "gtsvector",
    "pg_node_tree",
    "pg_ndistinct",
    "pg_dependencies",
    "pg_mcv_list",
    "pg_brin_bloom_summary",
    "pg_brin_minmax_multi_summary",
    // Of extensions.
    "ghstore",
    "ltree_gist",
    "gtrgm",
    "intbig_gkey",
];

/// Values of a type, as text that PostgreSQL reads; none for a type that is not known here.
pub fn literals(type_: &str) -> Option<Vec<String>> {
    let (_, literals) = LITERALS.iter().find(|(name, _)| *name == type_)?;
    let mut literals: Vec<String> = literals.iter().map(|text| (*text).to_owned()).collect();
    if type_ == "numeric" {
        let digits = "1234567890".repeat(50);
        literals.extend([digits.clone(), format!("-{digits}.{digits}")]);
    }
    Some(literals)
}

/// At least one of each; where there is an order, the first two are different.
const LITERALS: &[(&str, &[&str])] = &[
    ("bool", &["t", "f"]),
    ("bytea", &["\\x00ff5c27", ""]),
    ("char", &["a", "", "\""]),
    ("name", &["things", "", "Grüße"]),
    (
        "int8",
        &["9223372036854775807", "-9223372036854775808", "0"],
    ),
    ("int2", &["32767", "-32768", "0"]),
    // PostgreSQL does not take back its own empty `int2vector`, `oidvector` and `tsquery`.
    ("int2vector", &["1 -2 3", "4"]),
    ("_int2vector", &["{\"1 2\",NULL,3}", "{}", "[2:3]={1,2}"]),
    ("int4", &["2147483647", "-2147483648", "0"]),
    ("regproc", &["now", "0"]),
    (
        "text",
        &["Grüße, \u{1F600}, 'q' \"d\" \\ {,}\n", "", "NULL"],
    ),
    ("oid", &["4294967295", "0"]),
    ("tid", &["(4294967295,65535)", "(0,1)"]),
    ("xid", &["4294967295", "3"]),
    ("cid", &["4294967295", "0"]),
    ("oidvector", &["1 4294967295", "0"]),
    ("_oidvector", &["{\"1 2\",NULL,3}", "{}"]),
    ("json", &["{\"a\": [1,  null, \"\\u00e9\"]}", "null", "[]"]),
    ("xml", &["<a b=\"c\">d</a>", "text"]),
    ("point", &["(1,-2.5)", "(NaN,Infinity)"]),
    ("lseg", &["[(0,0),(1,-1)]"]),
    ("path", &["[(0,0),(1,1),(2,0)]", "((0,0),(1,1))"]),
    ("box", &["(3,4),(1,2)", "(0,0),(0,0)"]),
    ("polygon", &["((0,0),(1,1),(2,0))"]),
    ("line", &["{1,-2,3}"]),
    ("circle", &["<(1,2),3>", "<(0,0),0>"]),
    ("cidr", &["10.0.0.0/8", "2001:db8::/32", "10.1.2.3/32"]),
    (
        "inet",
        &[
            "10.1.2.3/8",
            "::1",
            "255.255.255.255",
            "fe80::1/64",
            "0.0.0.0/0",
            "::ffff:1.2.3.4/0",
        ],
    ),
    ("macaddr", &["08:00:2b:01:02:03", "ff:ff:ff:ff:ff:ff"]),
    (
        "macaddr8",
        &["08:00:2b:01:02:03:04:05", "00:00:00:00:00:00:00:00"],
    ),
    (
        "float4",
        &[
            "NaN",
            "Infinity",
            "-Infinity",
            "-0",
            "1e-45",
            "3.4028235e38",
            "0.1",
        ],
    ),
    (
        "float8",
        &[
            "NaN",
            "-Infinity",
            "Infinity",
            "-0",
            "5e-324",
            "-1.7976931348623157e308",
            "0.1",
        ],
    ),
    (
        "money",
        &[
            "12.34",
            "-0.01",
            "92233720368547758.07",
            "-92233720368547758.08",
        ],
    ),
    ("bpchar", &["ab  ", ""]),
    ("varchar", &["ab  ", "", "Grüße"]),
    (
        "date",
        &[
            "2024-02-29",
            "infinity",
            "-infinity",
            "4714-11-24 BC",
            "5874897-12-31",
        ],
    ),
    ("time", &["00:00:00", "24:00:00", "12:34:56.789012"]),
    (
        "timestamp",
        &[
            "2024-02-29 12:34:56.789012",
            "infinity",
            "-infinity",
            "4714-11-24 00:00:00 BC",
            "294276-12-31 23:59:59.999999",
        ],
    ),
    (
        "timestamptz",
        &[
            "2024-02-29 12:34:56.789012+05:30",
            "infinity",
            "-infinity",
            "294276-12-31 23:59:59.999999+00",
            "4714-11-24 00:00:00+00 BC",
            "0001-12-31 23:59:59.999999-15:59 BC",
        ],
    ),
    (
        "interval",
        &[
            "1 year -2 mons +3 days -04:05:06.789012",
            "-2147483648 days 2562047788:00:54.775807",
            "178000000 years",
            "-178000000 years",
            "0",
        ],
    ),
    (
        "timetz",
        &["00:00:00+15:59", "24:00:00-15:59", "12:34:56.789012+00"],
    ),
    ("bit", &["101", "11111111000000001"]),
    ("varbit", &["", "101", "1111111100000000"]),
    (
        "numeric",
        &[
            "0",
            "NaN",
            "Infinity",
            "-Infinity",
            "-0.00000000000000000001",
            "10000.00",
            "1e1000",
            "-1e131071",
            "1e-16383",
        ],
    ),
    // This and others below have no binary form.
    ("aclitem", &["pg_monitor=r*w/pg_monitor", "=r/pg_monitor"]),
    ("refcursor", &["cursor"]),
    ("regprocedure", &["sum(integer)", "0"]),
    ("regoper", &["||/"]),
    ("regoperator", &["+(integer,integer)", "!~~(text,text)"]),
    ("regclass", &["pg_class", "0"]),
    ("regtype", &["integer", "text[]"]),
    (
        "uuid",
        &[
            "00000000-0000-0000-0000-000000000000",
            "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
        ],
    ),
    ("txid_snapshot", &["10:20:10,14,15", "1:1:"]),
    ("pg_snapshot", &["10:20:10,14,15", "1:1:"]),
    ("pg_lsn", &["16/B374D848", "FFFFFFFF/FFFFFFFF", "0/0"]),
    ("tsvector", &["'a':1A,16383 'b c':2 'd'", ""]),
    ("tsquery", &["!a & (b:*AB | 'c d') <3> e", "a"]),
    ("regconfig", &["english", "simple"]),
    ("regdictionary", &["simple"]),
    (
        "jsonb",
        &["{\"a\": [1.50, null, {\"b\": \"c\"}]}", "null", "\"\""],
    ),
    ("jsonpath", &["$.\"a\"[*]?(@ > 1)", "strict $"]),
    ("regnamespace", &["pg_catalog"]),
    ("regrole", &["pg_monitor"]),
    ("regcollation", &["\"C\""]),
    ("xid8", &["18446744073709551615", "3", "0"]),
    (
        "int4range",
        &["[-1,2147483647)", "(,)", "empty", "(,5)", "[5,)"],
    ),
    ("int8range", &["[-1,9223372036854775807)", "(,)", "empty"]),
    ("numrange", &["[-1.5,NaN]", "(,)", "empty", "(1,2]"]),
    ("tsrange", &["[2024-02-29 12:00,infinity]", "(,)", "empty"]),
    (
        "tstzrange",
        &["[-infinity,2024-02-29 12:00+00)", "(,)", "empty"],
    ),
    ("daterange", &["[2024-02-29,infinity)", "(,)", "empty"]),
    ("cardinal_number", &["0", "2147483647"]),
    ("character_data", &["ab"]),
    ("sql_identifier", &["ab"]),
    ("time_stamp", &["2024-02-29 12:34:56+00"]),
    ("yes_or_no", &["YES", "NO"]),
    // Of extensions.
    ("citext", &["Grüße", ""]),
    ("hstore", &["\"a\"=>\"1\", \"b\"=>NULL, \"\"=>\"\"", ""]),
    ("ltree", &["Top.Science.Astronomy", ""]),
    ("lquery", &["Top.*{0,2}.sport*@.!football|tennis.*"]),
    ("ltxtquery", &["Europe & Russia*@ & !Transportation"]),
    ("seg", &["1.5 .. 2", "<7"]),
    ("query_int", &["1&(2|!3)"]),
    ("ean13", &["978-0-393-04002-9"]),
    ("isbn", &["0-393-04002-X"]),
    ("isbn13", &["978-0-393-04002-9"]),
    ("ismn", &["M-60115-562-9"]),
    ("ismn13", &["979-0-60115-562-9"]),
    ("issn", &["1436-4522"]),
    ("issn13", &["977-1436-452-00-8"]),
    ("upc", &["036000291452"]),
    ("cube", &["(1, 2.5),(3, -4)", "(0)"]),
];
