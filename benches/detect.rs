//! How long it takes to look for a language runtime: the first time, which opens
//! every image of the process, and again, as happens from time to time in a
//! process that has none.

#![allow(clippy::print_stdout, reason = "a benchmark says what it measured")]

use std::{
    env,
    error::Error,
    fs,
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use spy::{
    module::{AddressSpace, Modules},
    process::{LiveMemory, Process},
    runtime::{Detected, RUNTIMES},
    task::Pid,
};

const ROUNDS: usize = 5;

const PYTHON: &str = "import sys; print('ready'); sys.stdout.flush(); sys.stdin.read()";
const NODE: &str = "console.log('ready'); process.stdin.resume()";
const JAVA: &str = "class Waits { public static void main(String[] words) throws Exception { \
                    System.out.println(\"ready\"); System.in.read(); } }";

/// A target that waits for the end of its input.
struct Waiting(Child);

impl Waiting {
    fn start(mut command: Command) -> Result<Self, Box<dyn Error>> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut target = Self(command.spawn()?);
        let output = target.0.stdout.take().ok_or("no output")?;
        BufReader::new(output).read_line(&mut String::new())?;
        Ok(target)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What is there of the programs to look at.
fn commands() -> Result<Vec<Command>, Box<dyn Error>> {
    let mut commands = vec![Command::new("node"), Command::new("java")];
    commands[0].args(["-e", NODE]);
    let source = env::temp_dir().join(format!("Waits-{}.java", std::process::id()));
    fs::write(&source, JAVA)?;
    commands[1].arg(source);
    let home = env::var_os("PYENV_ROOT").map(PathBuf::from);
    let home = home.or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".pyenv")));
    let versions = home.and_then(|home| fs::read_dir(home.join("versions")).ok());
    let mut pythons: Vec<_> = versions.into_iter().flatten().flatten().collect();
    pythons.sort_by_key(fs::DirEntry::file_name);
    for version in pythons {
        let mut command = Command::new(version.path().join("bin/python"));
        command.args(["-c", PYTHON]);
        commands.push(command);
    }
    Ok(commands)
}

fn look(pid: Pid, space: &mut AddressSpace, modules: &mut Modules) -> (Option<String>, Duration) {
    let memory = LiveMemory::new(pid);
    let began = Instant::now();
    let found = RUNTIMES.iter().find_map(|detect| match detect(space, modules, &memory) {
        Detected::Found(runtime) => Some(runtime.name().to_owned()),
        Detected::Unreadable(_) | Detected::Nothing => None,
    });
    (found, began.elapsed())
}

fn main() -> Result<(), Box<dyn Error>> {
    println!("{:40} {:>9} {:>10} {:>10}  found", "process", "mappings", "first ms", "again ms");
    for command in commands()? {
        let name = command.get_program().to_string_lossy().into_owned();
        let Ok(target) = Waiting::start(command) else {
            println!("{name:40} cannot be run");
            continue;
        };
        let pid = Pid(i32::try_from(target.0.id())?);
        let process = Process::open(pid)?;
        let mappings = process.mappings()?;
        let (mut first, mut again) = (Duration::MAX, Duration::MAX);
        let mut found = None;
        for _ in 0..ROUNDS {
            let mut space = AddressSpace::new(mappings.clone(), process.root());
            let mut modules = Modules::default();
            let (name, took) = look(pid, &mut space, &mut modules);
            (found, first) = (name, first.min(took));
            again = again.min(look(pid, &mut space, &mut modules).1);
        }
        let milliseconds = |took: Duration| took.as_secs_f64() * 1e3;
        let (first, again) = (milliseconds(first), milliseconds(again));
        let found = found.unwrap_or_else(|| "nothing".to_owned());
        println!("{name:40} {:9} {first:10.2} {again:10.3}  {found}", mappings.len());
    }
    Ok(())
}
