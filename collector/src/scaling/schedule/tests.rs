use std::path::Path;

use proptest::prelude::*;

use super::*;

fn schedule(timezone: &str, windows: &str) -> Schedule {
    parse(timezone, windows).expect("a valid schedule")
}

fn parse(timezone: &str, windows: &str) -> Result<Schedule, String> {
    let text = format!(
        "{{name: s, timezone: {timezone}, targets: [demo/order], default: {{min: 1, max: 2}}, windows: {windows}}}"
    );
    let schedule: Schedule =
        service::config::parse_yaml(&text, Path::new("s.yml")).map_err(|error| error.to_string())?;
    schedule.check()?;
    Ok(schedule)
}

fn time(text: &str) -> Timestamp {
    Timestamp(text.parse::<Instant>().expect("a time").as_millisecond())
}

fn text(at: Timestamp) -> String {
    Instant::from_millisecond(at.as_millis()).expect("in range").to_string()
}

const BUSINESS_HOURS: &str = "[{days: [Mon-Fri], from: '07:00', to: '20:00', min: 6, max: 20}]";

#[test]
fn inside_of_a_window_its_bounds_hold_and_outside_the_default() {
    let schedule = schedule("Europe/Paris", BUSINESS_HOURS);
    for (now, min, window, next) in [
        // 20 November 2026 is a Friday; Paris is an hour ahead of UTC.
        ("2026-11-20T05:59:59Z", 1, None, "2026-11-20T06:00:00Z"),
        ("2026-11-20T06:00:00Z", 6, Some("Mon-Fri 07:00-20:00"), "2026-11-20T19:00:00Z"),
        ("2026-11-20T18:59:59Z", 6, Some("Mon-Fri 07:00-20:00"), "2026-11-20T19:00:00Z"),
        ("2026-11-20T19:00:00Z", 1, None, "2026-11-23T06:00:00Z"),
        ("2026-11-22T12:00:00Z", 1, None, "2026-11-23T06:00:00Z"),
    ] {
        let position = schedule.at(time(now));
        assert_eq!((position.bounds.min, position.window.as_deref()), (min, window), "{now}");
        assert_eq!(position.next.map(|c| text(c.at)).as_deref(), Some(next), "{now}");
    }
}

#[test]
fn a_window_over_midnight_belongs_to_the_day_on_which_it_begins() {
    let schedule = schedule("Etc/UTC", "[{days: [Fri], from: '22:00', to: '02:00', min: 3, max: 4}]");
    assert_eq!(schedule.at(time("2026-11-21T01:59:00Z")).bounds.min, 3);
    assert_eq!(schedule.at(time("2026-11-21T02:00:00Z")).bounds.min, 1);
    assert_eq!(schedule.at(time("2026-11-20T01:00:00Z")).bounds.min, 1);
}

#[test]
fn windows_that_touch_with_equal_bounds_change_nothing_in_between() {
    let schedule = schedule(
        "Etc/UTC",
        "[{from: '06:00', to: '12:00', min: 3, max: 4}, {from: '12:00', to: '24:00', min: 3, max: 4}]",
    );
    let next = schedule.at(time("2026-11-20T07:00:00Z")).next.expect("a change");
    assert_eq!((text(next.at), next.min, next.window), ("2026-11-21T00:00:00Z".to_owned(), 1, None));
    assert_eq!(schedule.at(time("2026-11-20T00:00:00Z")).next.map(|c| c.min), Some(3));
}

#[test]
fn a_skipped_time_means_the_first_moment_after_the_gap() {
    for (zone, from, day, moment) in [
        // Paris skips 02:00-03:00 on 28 March 2027, New York on 14 March.
        ("Europe/Paris", "02:30", "2027-03-28T00:00:00Z", "2027-03-28T01:00:00Z"),
        ("Europe/Paris", "02:00", "2027-03-28T00:00:00Z", "2027-03-28T01:00:00Z"),
        ("Europe/Paris", "03:00", "2027-03-28T00:00:00Z", "2027-03-28T01:00:00Z"),
        ("Europe/Paris", "02:30", "2027-03-29T00:00:00Z", "2027-03-29T00:30:00Z"),
        ("America/New_York", "02:30", "2027-03-14T05:00:00Z", "2027-03-14T07:00:00Z"),
        ("America/New_York", "02:30", "2027-03-13T05:00:00Z", "2027-03-13T07:30:00Z"),
    ] {
        let schedule = schedule(zone, &format!("[{{from: '{from}', to: '08:00', min: 5, max: 6}}]"));
        let next = schedule.at(time(day)).next.map(|c| text(c.at));
        assert_eq!(next.as_deref(), Some(moment), "{zone} {from} {day}");
    }
}

#[test]
fn a_time_that_comes_twice_means_the_first() {
    // Paris repeats 02:00-03:00 on 31 October 2027.
    let begins = schedule("Europe/Paris", "[{from: '02:30', to: '08:00', min: 5, max: 6}]");
    let next = begins.at(time("2027-10-30T22:00:00Z")).next.map(|c| text(c.at));
    assert_eq!(next.as_deref(), Some("2027-10-31T00:30:00Z"));
    let ends = schedule("Europe/Paris", "[{from: '01:00', to: '02:30', min: 5, max: 6}]");
    let next = ends.at(time("2027-10-30T23:30:00Z")).next.map(|c| text(c.at));
    assert_eq!(next.as_deref(), Some("2027-10-31T00:30:00Z"));
    assert_eq!(ends.at(time("2027-10-31T01:30:00Z")).bounds.min, 1, "the second 02:30 is after the end");
}

#[test]
fn a_window_within_the_gap_does_not_happen_and_the_day_has_its_other_hours() {
    let schedule = schedule("Europe/Paris", "[{from: '02:10', to: '02:50', min: 5, max: 6}]");
    let next = schedule.at(time("2027-03-28T00:00:00Z")).next.map(|c| text(c.at));
    assert_eq!(next.as_deref(), Some("2027-03-29T00:10:00Z"));
}

#[test]
fn what_makes_no_sense_is_refused_with_a_reason() {
    for (zone, windows, part) in [
        ("Mars/Base", "[]", "not a time zone: \"Mars/Base\""),
        ("Etc/UTC", "[{from: '25:00', to: '08:00', min: 1, max: 2}]", "not a time of day: \"25:00\""),
        ("Etc/UTC", "[{from: '07:00', to: '8', min: 1, max: 2}]", "not a time of day: \"8\""),
        (
            "Etc/UTC",
            "[{from: '07:00', to: '08:00', min: 3, max: 2}]",
            "window 07:00-08:00: min 3 is greater than max 2",
        ),
        ("Etc/UTC", "[{days: [Mo], from: '07:00', to: '08:00', min: 1, max: 2}]", "not a day: \"Mo\""),
        ("Etc/UTC", "[{days: [], from: '07:00', to: '08:00', min: 1, max: 2}]", "days is empty"),
        ("Etc/UTC", "[{from: '07:00', to: '08:00', min: 1, max: 2, desired: 2}]", "desired"),
        (
            "Etc/UTC",
            "[{days: [Sun], from: '22:00', to: '06:00', min: 1, max: 2}, {from: '05:00', to: '07:00', min: 1, max: 2}]",
            "windows Sun 22:00-06:00 and 05:00-07:00 overlap",
        ),
    ] {
        let error = parse(zone, windows).expect_err(part);
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn days_print_as_people_write_them() {
    let days = |text: &str| {
        let yaml = format!("{{days: {text}, from: '07:00', to: '08:00', min: 1, max: 2}}");
        let window: Window = service::config::parse_yaml(&yaml, Path::new("w.yml")).expect("a valid window");
        window.to_string()
    };
    assert_eq!(days("[Mon-Fri]"), "Mon-Fri 07:00-08:00");
    assert_eq!(days("[saturday, Sun]"), "Sat,Sun 07:00-08:00");
    assert_eq!(days("[Mon-Sun]"), "07:00-08:00");
    assert_eq!(days("[Fri-Mon]"), "Mon,Fri,Sat,Sun 07:00-08:00");
}

proptest! {
    /// The announced change is the first moment with other bounds: just before it the old ones still hold.
    #[test]
    fn bounds_change_at_the_announced_moment_and_not_before(
        seconds in 1_800_000_000i64..1_840_000_000,
        from in 0u32..24, length in 1u32..24,
        zone in prop::sample::select(vec!["Europe/Paris", "America/New_York", "Australia/Lord_Howe", "Etc/UTC"]),
    ) {
        let to = (from + length) % 24;
        let windows = format!("[{{days: [Mon, Wed-Sun], from: '{from:02}:30', to: '{to:02}:30', min: 3, max: 9}}]");
        let schedule = schedule(zone, &windows);
        let now = Timestamp(seconds * 1000);
        let position = schedule.at(now);
        let next = position.next.expect("a weekly window always comes again");
        prop_assert!(next.at > now);
        prop_assert_eq!(schedule.at(next.at).bounds, Bounds { min: next.min, max: next.max });
        prop_assert_eq!(schedule.at(Timestamp(next.at.0 - 1)).bounds, position.bounds);
        prop_assert_ne!(schedule.at(next.at).bounds, position.bounds);
    }
}
