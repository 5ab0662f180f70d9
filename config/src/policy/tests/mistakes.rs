//! What people get wrong when they write a policy: each with its place, and what to write instead.

use super::*;

/// Line, column, what is wrong, what to write.
fn first(text: &str) -> (usize, usize, String, String) {
    let Problem { line, column, what, mend } = wrong(text).remove(0);
    (line, column, what, mend)
}

#[track_caller]
fn is(text: &str, line: usize, column: usize, what: &str, mend: &str) {
    let found = first(text);
    assert_eq!((found.0, found.1), (line, column), "{found:?}");
    assert!(found.2.contains(what) && found.3.contains(mend), "{found:?}");
    let all = wrong(text);
    assert!(all.iter().all(|problem| !problem.to_string().contains("policy `")), "{all:?}");
    assert!(all.iter().all(|problem| !problem.to_string().contains("Cedar")), "{all:?}");
}

#[test]
fn a_policy_begins_behind_the_comments_before_it() {
    is("\n// to everybody\n  permit (principal, action, resource);", 3, 3, "needs an id", "@id");
}

#[test]
fn a_misspelt_word() {
    let caveat = release("x", "when { resource.caveats.contains(Lintas::Caveat::\"NOFORM\") }");
    is(&caveat, 4, 51, "there is no caveat `NOFORM`", "did you mean `NOFORN`?");
    let small = release("x", "when { resource.caveats.contains(Lintas::Caveat::\"rel-to\") }");
    is(&small, 4, 51, "there is no caveat `rel-to`", "did you mean `REL_TO`?");
    let far = release("x", "when { resource.tlp == Lintas::Tlp::\"SECRET\" }");
    is(&far, 4, 38, "there is no TLP colour `SECRET`", "known here: `CLEAR`, `GREEN`");
    assert_eq!(wrong(&caveat).len(), 1, "said once: {:?}", wrong(&caveat));
}

#[test]
fn a_misspelt_type_attribute_or_action() {
    let kind = release("x", "when { resource.tlp == Lintas::Tpl::\"RED\" }");
    is(&kind, 4, 24, "nothing of the type `Lintas::Tpl`", "did you mean `Lintas::Tlp`?");
    let bare = release("x", "when { resource.tlp == Tlp::\"RED\" }");
    is(&bare, 4, 24, "called `Lintas::Tlp`", "write Lintas::Tlp::\"RED\"");
    let attribute = release("x", "when { resource.purpose.contains(Lintas::Purpose::\"PREVENTION\") }");
    is(&attribute, 4, 8, "attribute `purpose` of `Packet` not found", "did you mean `purposes`?");
    let action = policy("x", "permit (principal, action == Lintas::Action::\"Realease\", resource)", "");
    is(&action, 3, 47, "there is no action `Realease`", "did you mean `Release`?");
    let transfer = policy("x", "permit (principal, action == Lintas::Action::\"transfer\", resource)", "");
    is(&transfer, 1, 1, "nobody ever asks", "action in");
}

#[test]
fn an_attribute_that_may_be_absent() {
    let via = release("x", "when { context.via == Lintas::Agency::\"KH\" }");
    is(&via, 4, 8, "`via` may be absent", "write context has via && before it");
    read(th(), &release("x", "when { context has via && context.via == Lintas::Agency::\"KH\" }"));
}

#[test]
fn a_comparison_of_different_things() {
    let text = release("x", "when { resource.tlp == \"RED\" }");
    assert_eq!(first(&text).0, 4);
    let number = release("x", "when { resource.named > 2 }");
    is(&number, 4, 8, "unexpected type", "");
    let set = release("x", "when { resource.data == Lintas::Data::\"MINOR\" }");
    assert_eq!(first(&set).0, 4);
}

#[test]
fn a_sign_too_few_or_too_many() {
    let equals = release("x", "when { resource.kind = Lintas::Kind::\"ALERT\" }");
    is(&equals, 4, 22, "`=` does not compare", "write `==`");
    let open = release("x", "when { (resource.named }");
    is(&open, 4, 24, "unexpected token `}`", "");
    let ended = "@id(\"x\")\n@reason(\"x\")\npermit (principal, action, resource)\n";
    is(ended, 1, 1, "does not end", "semicolon");
    let quote = release("x", "when { resource.kind == Lintas::Kind::\"ALERT }");
    assert!(!wrong(&quote).is_empty());
    let effect = policy("x", "allow (principal, action, resource)", "");
    is(&effect, 3, 1, "invalid policy effect: allow", "`permit` or `forbid`");
}

#[test]
fn letters_that_only_look_alike() {
    for (written, at, code, plain) in [
        ("Lintas::Agency::\"К\u{41d}\"", 17, "U+041A", "write `K`"),
        ("Lintas::Agency::\"Т\u{48}\"", 17, "U+0422", "write `T`"),
        ("Lintas::Agency::\"ＴH\"", 17, "U+FF34", "write `T`"),
        ("Lintas::Аgency::\"TH\"", 8, "U+0410", "write `A`"),
        ("Lintas::Agency::“TH”", 16, "U+201C", "write `\"`"),
        ("Lintas::Agency::\"ไทย\"", 17, "U+0E44", "plain letters here"),
    ] {
        let text = release("x", &format!("when {{ principal.agency in {written} }}"));
        is(&text, 4, "when { principal.agency in ".len() + at + 1, code, plain);
    }
    let coded = release("x", "when { principal.agency.country == \"\\u{54}H\" }");
    is(&coded, 4, 36, "may not be written in codes", "the letter itself");
}

#[test]
fn people_may_write_their_own_languages_in_comments_and_reasons() {
    let text = "// ตำรวจ, កម្ពុជា\n@id(\"x\")\n@reason(\"ส่งได้ทุกหน่วย — “ทั้งหมด”\")\r\npermit (principal, action == Lintas::Action::\"Release\", resource); // \u{200b}ข\n";
    assert_eq!(read(th(), text).policies().next().unwrap().reason, "ส่งได้ทุกหน่วย — “ทั้งหมด”");
}

#[test]
fn nothing_hides_in_comments_and_reasons() {
    // To some editors, the policy after the `\r` stands on a line of its own; to others, it is a comment.
    let hidden = format!("{RELEASE}// see below\rforbid (principal, action, resource);\n");
    is(&hidden, 4, 13, "hidden sign (U+000D)", "delete it");
    for sign in ['\u{202e}', '\u{2066}', '\u{2028}', '\u{85}', '\u{b}', '\u{1b}', '\u{0}', '\u{feff}'] {
        let comment = format!("// a{sign}b\n{RELEASE}");
        is(&comment, 1, 5, "hidden sign", "delete it");
        let reason = format!(
            "@id(\"x\")\n@reason(\"a{sign}b\")\npermit (principal, action == Lintas::Action::\"Release\", resource);"
        );
        is(&reason, 2, 11, "hidden sign", "delete it");
    }
}

#[test]
fn annotations_that_mean_nothing_or_are_too_long() {
    let text = |annotation: &str| {
        format!(
            "@id(\"x\")\n@reason(\"x\")\n{annotation}\npermit (principal, action == Lintas::Action::\"Release\", resource);"
        )
    };
    assert!(first(&text("@advise(\"x\")")).2.contains("@advise means nothing"));
    assert!(first(&text(&format!("@advice(\"{}\")", "x".repeat(161)))).2.contains("longer than 160"));
    assert!(first(&text("@reason(\"y\")")).2.contains("duplicate annotation"));
    for id in ["member", "not-accepted", "nothing-releases", "review-h3", "cannot-decide", "marking"] {
        assert!(first(&release(id, "")).2.contains("means something already"), "{id}");
    }
}

#[test]
fn the_baseline_permits_nothing() {
    let problems = PolicySet::read(Owner::Baseline, RELEASE).unwrap_err();
    assert!(problems[0].what.contains("may only forbid"), "{problems:?}");
    assert_eq!(read(Owner::Baseline, baseline::STANDARD).policies().count(), 8);
}

#[test]
fn every_mistake_is_told_at_once_up_to_a_bound() {
    let two = format!("{}{}", release("a", "when { resource.kimd }"), release("b", "when { resource.name }"));
    assert_eq!(wrong(&two).iter().map(|problem| problem.line).collect::<Vec<_>>(), [4, 8]);
    let many: String = (0..500).map(|n| release(&format!("p{n}"), "when { resource.kimd }")).collect();
    assert_eq!(wrong(&many).len(), set::PROBLEMS_MAX);
    let lines = "ก\n".repeat(60_000);
    assert_eq!(wrong(&lines).len(), set::PROBLEMS_MAX);
    let policies: String = (0..=set::POLICIES_MAX).map(|n| release(&format!("p{n}"), "")).collect();
    assert!(first(&policies).2.contains("at most 1000"));
}

#[test]
fn an_expression_that_would_exhaust_the_stack_is_refused_unread() {
    let deep = |open: &str, close: &str, n: usize| {
        release("x", &format!("when {{ {}true{} }}", open.repeat(n), close.repeat(n)))
    };
    is(&deep("(", ")", 100_000), 4, 38, "brackets stand within each other", "several policies");
    for (open, close) in [("[", "]"), ("{a: ", "}"), ("(", "")] {
        assert!(first(&deep(open, close, 20_000)).2.contains("brackets stand within each other"));
    }
    for chain in [
        "true || ",
        "true && ",
        "1 + ",
        "-",
        "!",
        "if true then true else ",
        "true == ",
        "resource.named || ",
    ] {
        let text = deep(chain, "", 200_000 / chain.len());
        assert!(first(&text).2.contains("too long"), "{chain}: {:?}", first(&text));
    }
    let path = release("x", &format!("when {{ resource{} }}", ".a".repeat(100_000)));
    assert!(first(&path).2.contains("too long"));
    let clauses = release("x", &"when { true } ".repeat(15_000));
    assert!(first(&clauses).2.contains("too long"));
    // Beside each other in brackets as well.
    let mixed = deep("(true || (true && ", "))", 130);
    assert!(!wrong(&mixed).is_empty());
}

#[test]
fn what_is_long_but_not_deep_is_read() {
    let codes: Vec<String> = (0..4_000).map(|n| format!("Lintas::Agency::\"A{n}\"")).collect();
    let list = release("x", &format!("when {{ [{}].contains(principal.agency) }}", codes.join(", ")));
    assert!(list.len() > 80_000);
    let chain = release("y", &format!("when {{ resource.named{} }}", " || resource.named".repeat(80)));
    let brackets = release("z", &format!("when {{ {}resource.named{} }}", "(".repeat(30), ")".repeat(30)));
    let set = read(th(), &format!("{list}{chain}{brackets}"));
    assert_eq!(set.policies().count(), 3);
    assert!(ask().released(set.text(), ACCEPT));
}

#[test]
fn a_name_is_not_asked_where_it_belongs() {
    for condition in [
        "when { Lintas::Agency::\"VN\" in Lintas::Group::\"ASEAN\" }",
        "when { Lintas::Agency::\"VN\".country == \"VN\" }",
        "when { Lintas::Agency::\"VN\" has country }",
        "when { (if resource.named then Lintas::Agency::\"VN\" else principal.agency) in Lintas::Group::\"ASEAN\" }",
    ] {
        let problems = wrong(&forbid("x", condition));
        let told = |problem: &Problem| problem.what.contains("where a name belongs");
        assert!(problems.iter().any(told), "{condition}: {problems:?}");
    }
}
