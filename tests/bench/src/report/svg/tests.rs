use super::*;

fn chart(lines: Vec<Line>) -> Chart {
    Chart {
        file: "latency",
        title: "Latency <of> accepts & \"more\"".to_owned(),
        x: ("packets in the store", true),
        y: ("microseconds", false),
        lines,
    }
}

fn line(name: &str, points: &[(f64, f64)]) -> Line {
    Line { name: name.to_owned(), points: points.to_vec() }
}

/// Every element that is opened is closed, in order; what stands between them holds nothing that XML forbids.
fn well_formed(svg: &str) {
    let mut open = Vec::new();
    for part in svg.split('<').skip(1) {
        let (tag, text) = part.split_once('>').expect("an element without an end");
        assert!(!text.contains('>'), "{text}");
        assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name));
        } else if !tag.ends_with('/') {
            open.push(tag.split(' ').next().unwrap());
        }
    }
    assert!(open.is_empty(), "{open:?}");
    for entity in svg.split('&').skip(1) {
        assert!(["amp;", "lt;", "gt;", "quot;"].iter().any(|known| entity.starts_with(known)), "{entity}");
    }
}

#[test]
fn a_chart_has_lines_points_names_and_ticks() {
    let svg = draw(&chart(vec![
        line("Lintas p50", &[(1e4, 300.0), (1e5, 310.0), (1e6, 330.0)]),
        line("reference p50", &[(1e4, 200.0), (1e6, 215.0)]),
    ]));
    well_formed(&svg);
    assert_eq!(svg.matches("<polyline").count(), 2);
    // A point each, and one beside each name.
    assert_eq!(svg.matches("<circle").count(), 5 + 2);
    for text in
        [">Lintas p50<", ">reference p50<", ">10k<", ">1M<", ">400<", "packets in the store (logarithmic)"]
    {
        assert!(svg.contains(text), "{text}\n{svg}");
    }
    assert!(!svg.contains("<script") && !svg.contains("href"), "{svg}");
}

#[test]
fn text_is_escaped() {
    let svg = draw(&chart(vec![line("a<b>&\"c\"\u{7}", &[(1.0, 1.0)])]));
    well_formed(&svg);
    assert!(
        svg.contains("<title id=\"title\">Latency &lt;of&gt; accepts &amp; &quot;more&quot;</title>"),
        "{svg}"
    );
    assert!(svg.contains(">a&lt;b&gt;&amp;&quot;c&quot; </text>"), "{svg}");
}

#[test]
fn names_stand_apart_and_within_the_plot() {
    let lines = (0..6).map(|number| line(&format!("line {number}"), &[(1.0, 0.0), (10.0, 0.01)])).collect();
    let svg = draw(&chart(lines));
    let mut places: Vec<f64> = svg
        .split("class=\"name\"")
        .skip(1)
        .map(|name| name.split("y=\"").nth(1).unwrap().split('"').next().unwrap().parse().unwrap())
        .collect();
    places.sort_by(f64::total_cmp);
    assert_eq!(places.len(), 6);
    assert!(places.windows(2).all(|two| two[1] - two[0] >= NAMES_APART - 0.1), "{places:?}");
    assert!(places.iter().all(|place| (TOP..HEIGHT).contains(place)), "{places:?}");
}

#[test]
fn a_chart_without_points_is_drawn() {
    for lines in [
        vec![],
        vec![line("none", &[])],
        vec![line("nowhere", &[(f64::NAN, 1.0), (0.0, 2.0), (1.0, f64::INFINITY)])],
    ] {
        let svg = draw(&chart(lines));
        well_formed(&svg);
        assert!(!svg.contains("NaN") && !svg.contains("inf\"") && !svg.contains("<circle"), "{svg}");
    }
}

#[test]
fn bars_are_as_long_as_their_values() {
    let given =
        vec![("Lintas".to_owned(), 20_000.0), ("A & B".to_owned(), 5_000.0), ("none".to_owned(), f64::NAN)];
    let svg = bars(&Bars { file: "peers", title: "Peers".to_owned(), unit: "accepts/s", bars: given });
    well_formed(&svg);
    let lengths: Vec<f64> = svg
        .split("<rect class=\"c")
        .skip(1)
        .map(|bar| bar.split("width=\"").nth(1).unwrap().split('"').next().unwrap().parse().unwrap())
        .collect();
    assert_eq!(lengths.len(), 3);
    assert!((lengths[0] / lengths[1] - 4.0).abs() < 0.01 && lengths[2] == 0.0, "{lengths:?}");
    assert!(svg.contains(">20,000<") && svg.contains(">A &amp; B<"), "{svg}");
    well_formed(&bars(&Bars { file: "peers", title: String::new(), unit: "", bars: vec![] }));
}
