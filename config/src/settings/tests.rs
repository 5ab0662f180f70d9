use super::*;

const LISTEN: &str = "listen = \"127.0.0.1:7411\"\n";

fn broker(rest: &str) -> Result<BrokerSettings, String> {
    BrokerSettings::parse(&format!("{LISTEN}{rest}\n")).map_err(|error| error.to_string())
}

#[test]
fn an_unknown_key_is_refused_with_its_place_and_a_suggestion() {
    let error = broker("credits = 3").unwrap_err();
    assert!(error.starts_with("line 2: there is no key `credits`; did you mean `credit`?"), "{error}");
    let error = NodeSettings::parse("brocker = \"127.0.0.1:1\"").unwrap_err().to_string();
    assert!(error.contains("did you mean `broker`?"), "{error}");
}

#[test]
fn a_bad_value_is_told_what_is_allowed() {
    let cases = [
        ("credit = 0", "`credit` is 0; it must be a number from 1 to 1,024"),
        ("credit = -1", "from 1 to 1,024"),
        ("credit = \"9\"", "from 1 to 1,024"),
        ("credit = 99999999999999999999", "from 1 to 1,024"),
        ("queue_entries_max = 0", "from 1 to 10,000,000"),
        ("journal_mib_max = 511", "`journal_mib_max` is 511; it must be a number from 512 to 16,777,216"),
        ("segment_mib = 1\njournal_mib_max = 127", "from 128 to 16,777,216"),
        ("segment_mib = 1024\njournal_mib_max = 8191", "from 8,192 to 16,777,216"),
        ("attachments_mib_max = 0", "from 1 to 16,777,216"),
        ("free_mib_min = 16777217", "from 0 to 16,777,216"),
        ("log = \"jsn\"", "must be one of `text`, `json`; did you mean `json`?"),
        ("metrics = \"0.0.0.0:7412\"", "an address of this machine itself"),
        ("metrics = \"192.0.2.1:7412\"", "an address of this machine itself"),
        ("metrics = true", "must be a text in quotes"),
        ("credit = 1\ncredit = 2", "duplicate key"),
    ];
    for (line, want) in cases {
        let error = broker(line).unwrap_err();
        assert!(error.starts_with("line ") && error.contains(want), "{line}: {error}");
    }
    let missing = BrokerSettings::parse("").unwrap_err().to_string();
    assert!(missing.contains("`listen` is missing; add it, e.g. listen = \"0.0.0.0:7411\""), "{missing}");
    assert!(NodeSettings::parse("broker = \"hub.example:7411\"").is_err());
}

#[test]
fn values_are_read() {
    let settings = broker("metrics = \"[::1]:9\"\nsubmissions_per_minute = 0\nlog = \"json\"").unwrap();
    assert_eq!(settings.metrics, Some("[::1]:9".parse().unwrap()));
    assert_eq!((settings.submissions_per_minute, settings.log), (0, LogFormat::Json));
    assert_eq!((settings.credit, settings.segment_mib, settings.queue_entries_max), (256, 64, 100_000));
}

#[test]
fn the_journal_is_capped_in_segments() {
    for (text, segment, segments) in [
        ("", 64, 1_024),
        ("journal_mib_max = 512", 64, 8),
        ("segment_mib = 1\njournal_mib_max = 160", 16, 10),
        ("segment_mib = 1024", 1_024, 64),
    ] {
        let settings = broker(text).unwrap();
        assert_eq!((settings.broker_segment_mib(), settings.segments_max()), (segment, segments), "{text}");
    }
}

#[test]
fn a_template_is_the_defaults_and_every_key_may_be_uncommented() {
    let listen = "192.0.2.1:7411".parse().unwrap();
    let text = BrokerSettings::template(listen);
    let plain = BrokerSettings::parse(&format!("listen = \"{listen}\"\n")).unwrap();
    assert_eq!(BrokerSettings::parse(&text).unwrap(), plain);
    let keys = BROKER_KEYS.map(|key| format!("# {} = ", key.name));
    let uncommented: String =
        text.lines()
            .map(|line| {
                if keys.iter().any(|key| line.starts_with(key)) {
                    line.trim_start_matches("# ")
                } else {
                    line
                }
            })
            .map(|line| format!("{line}\n"))
            .collect();
    let metrics = Some("127.0.0.1:7412".parse().unwrap());
    assert_eq!(BrokerSettings::parse(&uncommented).unwrap(), BrokerSettings { metrics, ..plain });
    let node = NodeSettings::parse(&NodeSettings::template(listen)).unwrap();
    let (attachments_mib_max, free_mib_min) = (1_048_576, 1_024);
    let (lock_after_minutes, log) = (0, LogFormat::Text);
    assert_eq!(
        node,
        NodeSettings {
            broker: listen,
            segment_mib: 64,
            attachments_mib_max,
            free_mib_min,
            lock_after_minutes,
            log
        }
    );
    assert!(text.lines().chain(NodeSettings::template(listen).lines()).all(|line| line.len() <= 100));
}

#[test]
fn what_is_written_is_read_again() {
    let node = NodeSettings::parse("broker = \"[2001:db8::1]:7411\"\nlog = \"json\"").unwrap();
    assert_eq!(NodeSettings::parse(&toml::to_string(&node).unwrap()).unwrap(), node);
    let settings = broker("metrics = \"127.0.0.1:1\"").unwrap();
    assert_eq!(BrokerSettings::parse(&toml::to_string(&settings).unwrap()).unwrap(), settings);
}
