"""Which topics a filter matches, and the keys that come of it."""

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from paho.mqtt.client import topic_matches_sub

from streamrnn import keys
from streamrnn.keys import KeyTemplate, matched_levels

levels = st.sampled_from(["", "a", "b", "plant", "$SYS", "x.y", "a b", "é"])
topics = st.lists(levels, min_size=1, max_size=5).map("/".join).filter(bool)
filters = st.builds(
    lambda body, end: "/".join(body + end),
    st.lists(levels | st.just("+"), min_size=1, max_size=4),
    st.sampled_from([[], ["#"]]),
).filter(bool) | st.just("#")


def matched_by_regex(topic_filter, topic):
    """The rules of section 4.7 once more, as slow and as plain as can be."""
    if topic[0] == "$" and topic_filter[0] in "+#":
        return None
    pattern = "/".join(
        {"+": "([^/]*)", "#": "(?P<rest>.*)"}.get(level, re.escape(level)) for level in topic_filter.split("/")
    )
    found = re.fullmatch(pattern, topic, re.DOTALL)
    if found is None and topic_filter.endswith("/#"):
        found = re.fullmatch(pattern.removesuffix("/(?P<rest>.*)"), topic, re.DOTALL)
    if found is None:
        return None
    if "rest" in found.re.groupindex:
        return (*found.groups()[:-1], *found["rest"].split("/"))
    return found.groups()


@given(filters, topics)
@example("a/#", "a")
@example("a/+", "a/")
@example("+", "$SYS")
@example("+/#", "a")
def test_matching_agrees_with_a_plain_regex_and_with_paho(topic_filter, topic):
    actual = matched_levels(topic_filter, topic)

    assert matched_by_regex(topic_filter, topic) == actual
    assert topic_matches_sub(topic_filter, topic) == (actual is not None)


@given(filters, topics)
def test_a_shared_subscription_matches_like_its_filter(topic_filter, topic):
    assert matched_levels(topic_filter, topic) == matched_levels(f"$share/edge/{topic_filter}", topic)


@pytest.mark.parametrize(
    ("topic_filter", "topic", "expected"),
    [
        ("plant/pump", "plant/pump", ()),
        ("plant/+/telemetry", "plant/pump/telemetry", ("pump",)),
        ("plant/+/telemetry", "plant/pump/state", None),
        ("+/+", "/pump", ("", "pump")),
        ("plant/#", "plant", ()),
        ("plant/#", "plant/", ("",)),
        ("plant/#", "plant/hall/pump", ("hall", "pump")),
        ("+/x/#", "a/x/b/c", ("a", "b", "c")),
        ("#", "$SYS/uptime", None),
        ("$SYS/#", "$SYS/uptime", ("uptime",)),
        ("a/#/b", "a/x/b", None),
        ("a/b+", "a/bc", None),
        ("$share/edge", "edge", None),
    ],
)
def test_wildcards_stand_for_levels_in_order(topic_filter, topic, expected):
    assert expected == matched_levels(topic_filter, topic)


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        (None, "north/pump/rms"),
        ("{1}", "north"),
        ("{2}-{1}", "pump-north"),
        ("line {3}!", "line rms!"),
        ("{1}{4}", "north"),
        ("all", "all"),
    ],
)
def test_a_template_picks_the_matched_levels(template, expected):
    assert expected == KeyTemplate(["plant/+/#"], template).key("plant/north/pump/rms")


def test_a_level_in_braces_is_not_read_as_a_template():
    assert KeyTemplate(["+/+"], "{1}").key("{2}/x") == "{2}"


def test_a_value_of_the_payload_leaves_a_hole():
    template = KeyTemplate(["rtl/+"], "{1}-{payload.model}-{payload.a.b}")

    assert ("model", "a.b") == template.paths
    assert f"host-{keys.HOLE}-{keys.HOLE}" == template.key("rtl/host")
    assert f"may-{keys.HOLE}-{keys.HOLE}" == template.key_for("may")


@pytest.mark.parametrize("key", ["a+", "#", "a\0", "\x1b", "\x85", "\ufdd0", "\U0001ffff", "\ud800"])
def test_what_no_topic_may_hold_makes_a_key_unfit(key):
    assert keys.unfit(key)[0] == "key_refused"
    assert keys.unfit(key[:-1] + "b") is None


@pytest.mark.parametrize("key", ["k" * 513, "/" * 100])
def test_a_key_that_is_too_long_or_too_deep_is_unfit(key):
    assert keys.unfit(key)[0] == "key_too_long"
    assert keys.unfit(key[:-1]) is None


def test_the_first_filter_that_matches_gives_the_key():
    template = KeyTemplate(["a/+/x", "+/b/x"])

    assert [template.key(topic) for topic in ("a/b/x", "c/b/x", "c/c/x")] == ["b", "c", None]


@pytest.mark.parametrize(("topic_filter", "topic"), [("plant/pump", "plant/pump"), ("plant/#", "plant")])
def test_the_whole_topic_is_the_key_when_no_level_was_matched(topic_filter, topic):
    assert topic == KeyTemplate([topic_filter]).key(topic)


@pytest.mark.parametrize("template", ["{}", "{0}", "{01}", "{x}", "{pipeline}", "a{", "}", "{1", "{-1}", "{{1}}"])
def test_other_braces_are_refused(template):
    with pytest.raises(ValueError, match="braces"):
        KeyTemplate(["a/+"], template)


def test_a_template_needs_a_filter():
    with pytest.raises(ValueError, match="filter"):
        KeyTemplate([])


@given(st.lists(topics, max_size=30))
def test_a_remembered_key_is_the_key_found_first(asked):
    template = KeyTemplate(["a/+", "+/#"], "{1}")
    fresh = [KeyTemplate(["a/+", "+/#"], "{1}").key(topic) for topic in asked]

    assert fresh == [template.key(topic) for topic in asked]


def test_only_so_many_topics_are_remembered_and_none_that_is_long():
    template = KeyTemplate(["+"])
    for i in range(keys.CACHED_TOPICS_MAX + 50):
        assert str(i) == template.key(str(i))
    assert template.key("x" * 60_000) == "x" * 60_000

    assert len(template._known) == keys.CACHED_TOPICS_MAX
    assert max(map(len, template._known)) <= keys.CACHED_TOPIC_CHARACTERS_MAX
    assert template.key("0") == "0"


@pytest.mark.parametrize(
    ("filters", "template", "key"),
    [
        (["plant/+/telemetry"], None, "pump"),
        (["$share/edge/plant/+/#"], "{1}-{2}", "pump-pump"),
        (["#"], "everything", "everything"),
        (["plant/pump7"], None, "plant/pump7"),
        (["plant/pump7", "plant/pump8"], None, "pump"),
    ],
)
def test_rows_without_a_topic_have_a_name_for_what_wildcards_match(filters, template, key):
    assert key == KeyTemplate(filters, template).key_for("pump")


def test_an_empty_template_is_a_constant():
    assert "" == KeyTemplate(["+"], "").key("x")
