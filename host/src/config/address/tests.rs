//! What each form of an address means, and every mistake with its text.

use super::*;

fn parse(text: &str) -> AddressParts {
    AddressParts::parse(text).unwrap_or_else(|problem| panic!("{text}: {problem}"))
}

fn host(name: &str, port: u16) -> Host {
    let name = match name.starts_with('/') {
        true => HostName::Folder(name.into()),
        false => HostName::Name(name.to_owned()),
    };
    Host {
        name,
        port,
        address: None,
    }
}

#[test]
fn hosts_are_read_in_every_form() {
    #[rustfmt::skip]
    let cases = [
        ("postgres://db", vec![host("db", 5432)]),
        ("postgresql://db:6543/orders", vec![host("db", 6543)]),
        ("postgres://db:/", vec![host("db", 5432)]),
        ("postgres://u:p@[::1]:1,[2001:db8::2]", vec![host("::1", 1), host("2001:db8::2", 5432)]),
        ("postgres://a:1,b:2/x?target_session_attrs=any", vec![host("a", 1), host("b", 2)]),
        ("postgres://%2Frun%2Fpg:7/x", vec![host("/run/pg", 7)]),
        ("postgres:///x?host=/run/pg", vec![host("/run/pg", 5432)]),
        ("postgres:///x?host=a,b&port=3", vec![host("a", 3), host("b", 3)]),
        ("host=a,b port=1,2", vec![host("a", 1), host("b", 2)]),
        ("host=a,b port=,2", vec![host("a", 5432), host("b", 2)]),
        ("host='/a b/it\\'s' port = 5433", vec![host("/a b/it's", 5433)]),
        ("host=a host=b", vec![host("b", 5432)]),
    ];
    for (text, expected) in cases {
        assert_eq!(parse(text).hosts, expected, "{text}");
    }
    let both = parse("host=db hostaddr=192.0.2.7");
    assert_eq!(both.hosts[0].name, HostName::Name("db".to_owned()));
    assert_eq!(both.hosts[0].address, "192.0.2.7".parse().ok());
    assert_eq!(
        parse("hostaddr=::1").hosts[0].name,
        HostName::Name("::1".to_owned())
    );
}

#[test]
fn the_last_at_sign_ends_the_login() {
    let parts = parse("postgres://o%3A:p@ss:w%2Fd%FF@db/orders");
    assert_eq!(parts.user.as_deref(), Some("o:"));
    assert_eq!(parts.password.as_deref(), Some(&b"p@ss:w/d\xff"[..]));
    assert_eq!(parts.database.as_deref(), Some("orders"));
    let parts = parse(r"user=o password='a b\\c\'d' host=db dbname=x");
    assert_eq!(parts.password.as_deref(), Some(&br"a b\c'd"[..]));
    let parts = parse("postgres://db?user=u&password=p%3D");
    assert_eq!(
        (parts.user.as_deref(), parts.password.as_deref()),
        (Some("u"), Some(&b"p="[..]))
    );
}

#[test]
fn every_setting_is_kept() {
    let parts = parse(
        "postgres://db/x?application_name=shop&options=-c%20work_mem%3D1MB&connect_timeout=3\
         &keepalives=1&keepalives_idle=10&keepalives_interval=11&keepalives_count=12&tcp_user_timeout=13\
         &target_session_attrs=prefer-standby&load_balance_hosts=random&channel_binding=require\
         &sslmode=verify-ca&sslrootcert=/ca.pem&sslcert=/c.pem&sslkey=/k.pem&sslnegotiation=direct&passfile=/pass\
         &client_encoding=UTF-8",
    );
    let keepalive = Keepalive {
        enabled: true,
        idle: Some(Duration::from_secs(10)),
        interval: Some(Duration::from_secs(11)),
        count: Some(12),
        user_timeout: Some(Duration::from_millis(13)),
    };
    let expected = AddressParts {
        hosts: vec![host("db", 5432)],
        user: None,
        password: None,
        database: Some("x".to_owned()),
        application_name: Some("shop".to_owned()),
        options: Some("-c work_mem=1MB".to_owned()),
        host_timeout: Some(Duration::from_secs(3)),
        keepalive,
        target: Target::PreferStandby,
        shuffled: true,
        channel_binding: ChannelBinding::Require,
        ssl_mode: Some(SslMode::VerifyCa),
        roots: Some(Roots::File("/ca.pem".into())),
        certificate: Some("/c.pem".into()),
        key: Some("/k.pem".into()),
        direct_tls: true,
        passfile: Some("/pass".into()),
    };
    assert_eq!(parts, expected);
    let parts = parse("host=db sslrootcert=system keepalives=0 connect_timeout=0");
    assert_eq!(parts.roots, Some(Roots::System));
    assert_eq!((parts.keepalive.enabled, parts.host_timeout), (false, None));
}

#[test]
fn what_libpq_is_told_without_effect_is_taken() {
    let plain = parse("host=db");
    for idle in [
        "gssencmode=disable",
        "gssencmode=prefer",
        "gssdelegation=0",
        "replication=false",
        "sslcertmode=allow",
        "sslcompression=0",
        "sslnegotiation=postgres",
        "sslsni=1",
        "ssl_min_protocol_version=TLSv1.2",
        "ssl_min_protocol_version=''",
        "ssl_max_protocol_version=TLSv1.3",
    ] {
        assert_eq!(parse(&format!("host=db {idle}")), plain, "{idle}");
    }
    assert_eq!(
        parse("postgres://db?ssl=true").ssl_mode,
        Some(SslMode::Require)
    );
    let system = parse("host=db keepalives_idle=0 keepalives_interval=0 keepalives_count=0");
    let keepalive = system.keepalive;
    let zeros = (Some(Duration::ZERO), Some(Duration::ZERO), Some(0));
    assert_eq!((keepalive.idle, keepalive.interval, keepalive.count), zeros);
}

#[test]
fn a_mistake_is_named_and_nothing_of_the_address_repeated() {
    #[rustfmt::skip]
    let cases = [
        ("secret", "it is neither a URL nor a list of key=value"),
        ("host=db password=my secret", "it is neither a URL nor a list of key=value"),
        ("host=db password='secret", "a quoted value in it has no end"),
        ("postgres://u:secret@", "it names no host"),
        ("postgres://u:secret@a,,b", "it names no host"),
        ("user=u", "it names no host"),
        ("postgres://u:secret/w@db", "port is to be a whole number from 1 to 65535"),
        ("postgres://db:0", "port is to be a whole number from 1 to 65535"),
        ("postgres://[::1", "an IPv6 address in it lacks the ] at its end"),
        ("postgres://[::1]5432", "only :port may follow the ] of an IPv6 address"),
        ("postgres://db?secret", "what follows its ? is to be key=value, joined by &"),
        ("host=a,b,c port=1,2", "it has another number of ports or addresses than of hosts"),
        ("host=a,b hostaddr=::1", "it has another number of ports or addresses than of hosts"),
        ("host=a hostaddr=secret", "hostaddr is to be a list of IP addresses"),
        ("host=db sslmod=require", "a key in it is not known; did you mean sslmode?"),
        ("host=db gssencmode=require", "gssencmode is to be disable or prefer here"),
        ("host=db sslnegotiation=none", "sslnegotiation is to be one of postgres, direct"),
        ("host=db ssl_min_protocol_version=TLSv1.3", "ssl_min_protocol_version is to be TLSv1 or TLSv1.1 or TLSv1.2 here"),
        ("host=db ssl=false", "ssl is to be true; say sslmode=disable for none"),
        ("host=db service=x", "service is not supported here; give what the service file says of it"),
        ("host=db sslcrl=x", "sslcrl is not supported here; no list of revoked certificates is read"),
        ("host=db sslmode=allow", "sslmode is to be one of disable, prefer, require, verify-ca, verify-full"),
        ("host=db client_encoding=LATIN1", "client_encoding can only be UTF8"),
        ("host=db sslcert=x", "sslcert and sslkey only make sense together"),
        ("postgres://u%FF@db", "user is not UTF-8"),
        ("postgres://u:a%00@db", "password has a zero byte in it"),
    ];
    for (text, expected) in cases {
        let problem = AddressParts::parse(text).expect_err(text).to_string();
        assert_eq!(problem, expected, "{text}");
    }
    let problem = AddressParts::parse("host=db password=my xyzzy=1").unwrap_err();
    assert!(!problem.to_string().contains("xyzzy"), "{problem}");
}

#[test]
fn a_password_is_in_no_debug_output() {
    let debug = format!("{:?}", parse("postgres://u:sesame@db"));
    assert!(
        debug.contains("(not shown)") && !debug.contains("sesame"),
        "{debug}"
    );
}
