//! Prints the page that explains every rule.

fn main() {
    print!("{}", meshward_validator::rules::docs::page());
}
