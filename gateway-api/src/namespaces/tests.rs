use std::collections::BTreeMap;

use super::{Namespaces, selector};

fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn a_namespace_is_selected_by_its_labels_and_by_its_name() {
    let shop = labels(&[("team", "shop")]);
    let namespaces = Namespaces { labels: BTreeMap::from([("shop", &shop)]) };
    let by_label = selector(Some(&shop), std::iter::empty()).expect("a selector");
    assert!(namespaces.selected(&by_label, "shop"));
    assert!(!namespaces.selected(&by_label, "other"));
    let name = ["other".to_owned()];
    let expression = ("kubernetes.io/metadata.name", "In", name.as_slice());
    let by_name = selector(None, [expression].into_iter()).expect("a selector");
    assert!(namespaces.selected(&by_name, "other"));
    assert!(!namespaces.selected(&by_name, "shop"));
}

#[test]
fn expressions_that_mean_nothing_are_refused() {
    let values = ["a".to_owned()];
    for (operator, values) in [("In", &[][..]), ("NotIn", &[]), ("Exists", &values), ("Equals", &values)] {
        assert!(selector(None, [("key", operator, values)].into_iter()).is_err(), "{operator}");
    }
}
