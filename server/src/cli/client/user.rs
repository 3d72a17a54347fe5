//! `ringlog user list, set, delete`. The password is salted here, as Kafka's clients do it: the node
//! gets what verifies it, never the password.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::builder::NonEmptyStringValueParser;
use clap::{Arg, ArgAction, ArgMatches, Command};
use ringlog_engine::limits::{SCRAM_LEAST_ITERATIONS, SCRAM_MOST_ITERATIONS};
use ringlog_engine::users::Mechanism;
use serde_json::{Value, json};
use ureq::http::Method;

use super::api::escaped;
use super::arguments::{
    api, json, of_node, print, print_json, subject, switch, text, texts, value,
};
use super::delete::delete_each;
use super::failure::Failure;
use super::password::password;
use super::table::table;
use super::topic::{columns, pages};
use crate::security::keys::{SALT_BYTES, random, salted_password};

/// The subcommand.
pub(super) fn command() -> Command {
    let mechanism = |help| {
        value("mechanism", "MECHANISM", help).value_parser(Mechanism::ALL.map(Mechanism::name))
    };
    let iterations = i64::from(SCRAM_LEAST_ITERATIONS)..=i64::from(SCRAM_MOST_ITERATIONS);
    let names = Arg::new("user")
        .value_name("USER")
        .required(true)
        .num_args(1..)
        .value_parser(NonEmptyStringValueParser::new())
        .help("Names of users");
    Command::new("user")
        .about("List, make and delete users of a running node, and set their passwords")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(
            of_node(Command::new("list").about("List users, and by which mechanisms they log in"))
                .arg(json("Print JSON: a list of users")),
        )
        .subcommand(
            of_node(
                Command::new("set")
                    .about("Set a user's password, and make the user who is not there")
                    .long_about(
                        "Set a user's password, and make the user who is not there. It is asked for at \
                         the terminal, or read from standard input, or from a file; it is never an \
                         argument, and it is salted here: the node does not see it. Connections that \
                         are logged in stay.",
                    ),
            )
            .arg(
                subject("user", "The user's name").value_parser(NonEmptyStringValueParser::new()),
            )
            .arg(value(
                "password-file",
                "FILE",
                "A file with the password, without the end of its last line, in place of standard \
                 input",
            ))
            .arg(
                mechanism(
                    "Only for logins by this one, the password of the other stays; may be given \
                     more than once [default: both]",
                )
                .action(ArgAction::Append),
            )
            .arg(
                value("iterations", "N", "How often the password is hashed: 4096 to 16384")
                    .value_parser(clap::value_parser!(u32).range(iterations))
                    .default_value("8192"),
            )
            .arg(json("Print what was set as JSON")),
        )
        .subcommand(
            of_node(
                Command::new("delete")
                    .about("Delete users; connections that are logged in stay"),
            )
            .arg(names)
            .arg(mechanism(
                "Only what they log in with by this one; who has no other is deleted",
            ))
            .arg(switch("if-exists", "A user who is not there is no failure"))
            .arg(json("Print the names of those that were deleted, as JSON")),
        )
}

/// Runs it.
pub(super) fn run(flags: &ArgMatches) -> Result<(), Failure> {
    match flags.subcommand() {
        Some(("list", flags)) => list(flags),
        Some(("set", flags)) => set(flags),
        Some(("delete", flags)) => delete(flags),
        _ => unreachable!("clap asks for a subcommand"),
    }
}

fn list(flags: &ArgMatches) -> Result<(), Failure> {
    let users = pages(&api(flags)?, "/users", "users")?;
    if flags.get_flag("json") {
        return print_json(&Value::Array(users));
    }
    let rows = users.iter().flat_map(|user| {
        let credentials = user["credentials"].as_array().into_iter().flatten();
        credentials.map(|credential| {
            let name = columns(user, &["name"]);
            [name, columns(credential, &["mechanism", "iterations"])].concat()
        })
    });
    print(&table(
        &["USER", "MECHANISM", "ITERATIONS"],
        &rows.collect::<Vec<_>>(),
    ))
}

fn set(flags: &ArgMatches) -> Result<(), Failure> {
    let api = api(flags)?;
    let user = text(flags, "user").unwrap_or_default();
    let iterations = flags.get_one::<u32>("iterations").copied();
    let iterations = iterations.unwrap_or(SCRAM_LEAST_ITERATIONS);
    let wanted = texts(flags, "mechanism");
    let is_wanted = |mechanism: &Mechanism| wanted.is_empty() || wanted.contains(&mechanism.name());
    let mechanisms: Vec<Mechanism> = Mechanism::ALL.into_iter().filter(is_wanted).collect();
    let password = password(user, text(flags, "password-file"))?;
    let credentials = mechanisms.iter().map(|mechanism| {
        let salt = random::<SALT_BYTES>();
        let salted = salted_password(*mechanism, &password, &salt, iterations);
        json!({
            "mechanism": mechanism.name(),
            "iterations": iterations,
            "salt_base64": STANDARD.encode(salt),
            "salted_password_base64": STANDARD.encode(&salted),
        })
    });
    let body = json!({"credentials": credentials.collect::<Vec<_>>()});
    api.send(Method::PUT, &format!("/users/{}", escaped(user)), &body)?;
    if flags.get_flag("json") {
        let credentials = mechanisms
            .iter()
            .map(|mechanism| json!({"mechanism": mechanism.name(), "iterations": iterations}));
        let credentials: Vec<Value> = credentials.collect();
        return print_json(&json!({"name": user, "credentials": credentials}));
    }
    let names: Vec<&str> = mechanisms.into_iter().map(Mechanism::name).collect();
    print(&format!(
        "set the password of user {user} for {}\n",
        names.join(", ")
    ))
}

fn delete(flags: &ArgMatches) -> Result<(), Failure> {
    let mechanism = text(flags, "mechanism");
    let only = mechanism.map_or(String::new(), |name| format!("?mechanism={name}"));
    let of = mechanism.map_or(String::new(), |name| format!("{name} of "));
    delete_each(
        flags,
        "user",
        |user| format!("/users/{}{only}", escaped(user)),
        |user| format!("deleted {of}user {user}\n"),
    )
}
