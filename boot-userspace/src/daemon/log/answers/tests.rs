use super::*;

fn machine(number: u32) -> Mac {
    let [a, b, c, d] = number.to_be_bytes();
    Mac([2, 0, a, b, c, d])
}

#[test]
fn a_second_has_so_many_lines_and_then_a_number() {
    let mut budget = AnswerBudget::default();
    assert!((0..MOST).all(|number| budget.admit_answer(true, machine(number), 7)));
    let more = [true, false, false];
    assert!(more.into_iter().all(|is_offer| !budget.admit_answer(is_offer, machine(1), 7)));
    assert_eq!((budget.offers, budget.others), (1, 2));
    budget.next_second();
    assert!(budget.admit_answer(false, machine(1), 7));
    assert_eq!((budget.written, budget.offers, budget.others), (1, 0, 0));
}

/// What 78,600 answers a second to one machine leave in the log, and to any number of machines.
#[test]
fn a_flood_of_one_machine_is_a_line_a_minute_and_pushes_nobody_out() {
    let mut budget = AnswerBudget::default();
    let mut written = 0;
    let mut named = Vec::new();
    for second in 0..2 * MINUTE {
        written += (0..78_600).filter(|_| budget.admit_answer(false, machine(1), 7)).count();
        assert!(budget.admit_answer(true, machine(1000 + second), 7), "another machine in second {second}");
        named.extend(budget.next_second());
    }
    let more = 60 * 78_600 - u64::from(MOST_OF_ONE);
    let flood = Flood { mac: machine(1), link: 7, answers: more + u64::from(MOST_OF_ONE) };
    assert_eq!(named.len(), 2);
    assert!(named.iter().all(|other| *other == flood), "{named:?}");
    assert_eq!(written, 2 * MOST_OF_ONE as usize);
}

#[test]
fn a_flood_in_the_name_of_many_machines_is_short_in_the_long_run() {
    let mut budget = AnswerBudget::default();
    let day = (0..3600).map(|second| {
        let written = (0..20_000)
            .filter(|number| budget.admit_answer(true, machine(second * 20_000 + number), 7))
            .count();
        budget.next_second();
        written as u64
    });
    let written: u64 = day.sum();
    assert!(written <= u64::from(MOST_AT_ONCE + 3600 * MOST_GOING_ON), "{written} lines in an hour");
}
