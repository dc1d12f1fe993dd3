//! `xpxe-verify`: the kernel verifier's result for the kernel half, beside the kernel's limits.
//!
//! Loads the programs with tables of their own, and removes both at the end. The exit code is 0 only when
//! every program loads.

#![expect(unsafe_code, reason = "aya does not give out a program's translated instructions")]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use aya::programs::{Program, ProgramFd, ProgramInfo};
use boot_tests::sandbox::Sandbox;
use boot_userspace::fastpath::{OBJECT, Sizes, Temporary, load};

/// `BPF_COMPLEXITY_LIMIT_INSNS`: the instructions that the verifier checks before it gives up.
const MOST_VERIFIED: u32 = 1_000_000;
/// `MAX_BPF_STACK`: for a program and the functions it calls together.
const MOST_STACK: u32 = 512;

fn main() -> ExitCode {
    match verify() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn verify() -> Result<()> {
    if std::env::args().len() > 1 {
        bail!("usage: xpxe-verify");
    }
    if !nix::unistd::geteuid().is_root() {
        bail!("only root may load programs into the kernel: run this as root, or `cargo xtask verify`");
    }
    let sandbox = Sandbox::enter()?;
    let pins = Temporary::new(&sandbox.pin_dir())?;
    let ebpf = load(pins.path(), false, Sizes::of(0))?;
    println!("object: {} bytes\n", OBJECT.len());
    println!("program      verified   of limit   translated      jitted   stack (deepest call chain)");
    for (name, program) in ebpf.programs() {
        let (info, fd) = match program {
            Program::Xdp(program) => (program.info()?, program.fd()?),
            Program::SchedClassifier(program) => (program.info()?, program.fd()?),
            _ => bail!("{name} is of a kind that xpxe does not have"),
        };
        println!("{}", Row::new(name, &info, fd)?);
    }
    println!("\nlimits: {MOST_VERIFIED} verified instructions, {MOST_STACK} bytes of stack");
    Ok(())
}

/// One line of the table.
struct Row {
    name: String,
    verified: u32,
    translated: u32,
    jitted: u32,
    stack: Chain,
}

impl Row {
    fn new(name: &str, info: &ProgramInfo, fd: &ProgramFd) -> Result<Self> {
        let instructions = instructions(fd.as_fd()).context("reading the translated instructions")?;
        Ok(Self {
            name: name.to_owned(),
            verified: info.verified_instruction_count().context("Linux 5.16 or later is needed")?,
            translated: info.size_translated().unwrap_or_default(),
            jitted: info.size_jitted(),
            stack: deepest(&instructions),
        })
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let share = 100.0 * f64::from(self.verified) / f64::from(MOST_VERIFIED);
        let Self { name, verified, translated, jitted, stack } = self;
        write!(f, "{name:<10} {verified:>10} {share:>8.2} % {translated:>10} B {jitted:>9} B   {stack}")
    }
}

/// Bytes of stack, function by function from the program down.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Chain(Vec<u32>);

impl Chain {
    fn total(&self) -> u32 {
        self.0.iter().sum()
    }
}

impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<String> = self.0.iter().map(u32::to_string).collect();
        write!(f, "{} = {} B of {MOST_STACK}", parts.join(" + "), self.total())
    }
}

/// A BPF instruction (RFC 9669 section 3).
#[derive(Clone, Copy)]
struct Instruction {
    code: u8,
    destination: u8,
    source: u8,
    offset: i16,
    immediate: i32,
}

impl Instruction {
    const FRAME_POINTER: u8 = 10;
    const CALL: u8 = 0x85;
    const LOAD_IMMEDIATE: u8 = 0x18;
    const MOVE: u8 = 0xbf;
    const ADD: u8 = 0x07;

    fn read(bytes: [u8; 8]) -> Self {
        let [code, registers, o1, o2, i1, i2, i3, i4] = bytes;
        let (low, high) = (registers & 15, registers >> 4);
        let (destination, source) = if cfg!(target_endian = "little") { (low, high) } else { (high, low) };
        Self {
            code,
            destination,
            source,
            offset: i16::from_ne_bytes([o1, o2]),
            immediate: i32::from_ne_bytes([i1, i2, i3, i4]),
        }
    }

    /// The function that is called (1), or handed to a helper that calls it (4), relative to the next instruction.
    fn calls(self) -> Option<i32> {
        match (self.code, self.source) {
            // The kernel moves the distance into the offset once the program is compiled.
            (Self::CALL, 1) => Some(i32::from(self.offset)),
            (Self::LOAD_IMMEDIATE, 4) => Some(self.immediate),
            _ => None,
        }
    }

    fn is_memory_access(self) -> bool {
        matches!(self.code & 7, 1..=3)
    }

    fn is_arithmetic(self) -> bool {
        matches!(self.code & 7, 4 | 7)
    }
}

/// The stack of the deepest chain of calls that begins with the program itself.
fn deepest(instructions: &[Instruction]) -> Chain {
    let target = |at: usize, distance: i32| at.checked_add_signed(isize::try_from(distance).ok()? + 1);
    let calls: Vec<(usize, usize)> = instructions
        .iter()
        .enumerate()
        .filter_map(|(at, instruction)| Some((at, target(at, instruction.calls()?)?)))
        .collect();
    let mut starts: BTreeSet<usize> = calls.iter().map(|(_, to)| *to).collect();
    starts.insert(0);
    let starts: Vec<usize> = starts.into_iter().filter(|start| *start < instructions.len()).collect();
    let mut functions = BTreeMap::new();
    for (position, start) in starts.iter().enumerate() {
        let end = starts.get(position + 1).copied().unwrap_or(instructions.len());
        let callees = calls.iter().filter(|(at, _)| (*start..end).contains(at)).map(|(_, to)| *to);
        functions.insert(*start, (depth(&instructions[*start..end]), callees.collect::<Vec<_>>()));
    }
    chain(&functions, 0)
}

fn chain(functions: &BTreeMap<usize, (u32, Vec<usize>)>, start: usize) -> Chain {
    let Some((own, callees)) = functions.get(&start) else { return Chain::default() };
    // The verifier refuses recursion.
    let below = callees.iter().map(|callee| chain(functions, *callee)).max_by_key(Chain::total);
    Chain(std::iter::once(*own).chain(below.unwrap_or_default().0).collect())
}

/// The deepest byte below the frame pointer that a function touches or takes the address of, in units of 16
/// as the verifier counts.
fn depth(function: &[Instruction]) -> u32 {
    let mut deepest = 0;
    let mut points_to_frame = [false; 16];
    for instruction in function {
        let Instruction { code, destination, source, offset, immediate } = *instruction;
        let pointer = if code & 7 == 1 { source } else { destination };
        if instruction.is_memory_access() {
            if pointer == Instruction::FRAME_POINTER {
                deepest = deepest.min(i32::from(offset));
            }
            if code & 7 == 1 {
                points_to_frame[usize::from(destination)] = false;
            }
        } else if code == Instruction::MOVE && source == Instruction::FRAME_POINTER {
            points_to_frame[usize::from(destination)] = true;
        } else if code == Instruction::ADD && points_to_frame[usize::from(destination)] {
            deepest = deepest.min(immediate);
            points_to_frame[usize::from(destination)] = false;
        } else if instruction.is_arithmetic() {
            points_to_frame[usize::from(destination)] = false;
        }
    }
    deepest.unsigned_abs().next_multiple_of(16)
}

/// The head of `struct bpf_prog_info`.
#[repr(C)]
#[derive(Default)]
struct Info {
    kind: u32,
    id: u32,
    tag: [u8; 8],
    jited_length: u32,
    translated_length: u32,
    jited: u64,
    translated: u64,
}

/// The head of `union bpf_attr` for `BPF_OBJ_GET_INFO_BY_FD`.
#[repr(C)]
struct GetInfo {
    fd: u32,
    length: u32,
    info: u64,
}

/// A program as the verifier left it.
fn instructions(program: BorrowedFd<'_>) -> Result<Vec<Instruction>> {
    const BPF_OBJ_GET_INFO_BY_FD: libc::c_int = 15;
    let mut bytes = vec![0_u8; 1 << 20];
    let mut info = Info {
        translated_length: u32::try_from(bytes.len())?,
        translated: bytes.as_mut_ptr().expose_provenance() as u64,
        ..Info::default()
    };
    let attr = GetInfo {
        fd: program.as_raw_fd().cast_unsigned(),
        length: u32::try_from(size_of::<Info>())?,
        info: (&raw mut info).expose_provenance() as u64,
    };
    // SAFETY: the kernel reads `attr` and writes at most `length` bytes to `info` and at most
    // `translated_length` bytes to `bytes`; all three outlive the call.
    let done = unsafe {
        libc::syscall(libc::SYS_bpf, BPF_OBJ_GET_INFO_BY_FD, &raw const attr, size_of::<GetInfo>())
    };
    if done < 0 {
        return Err(io::Error::last_os_error().into());
    }
    bytes.truncate(usize::try_from(info.translated_length)?);
    Ok(bytes.chunks_exact(8).filter_map(|bytes| Some(Instruction::read(bytes.try_into().ok()?))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(instructions: &[(u8, u8, u8, i16, i32)]) -> Vec<Instruction> {
        let instruction = |&(code, destination, source, offset, immediate)| Instruction {
            code,
            destination,
            source,
            offset,
            immediate,
        };
        instructions.iter().map(instruction).collect()
    }

    #[test]
    fn the_deepest_chain_is_found() {
        let program = program(&[
            (0xbf, 2, 10, 0, 0),   // r2 = r10
            (0x07, 2, 0, 0, -40),  // r2 += -40
            (0x85, 0, 1, 2, 1),    // call 5
            (0x18, 2, 4, 0, 4),    // r2 = function 8
            (0x95, 0, 0, 0, 0),    // exit
            (0x7b, 10, 1, -8, 0),  // *(r10 - 8) = r1
            (0x95, 0, 0, 0, 0),    // exit
            (0x00, 0, 0, 0, 0),    // never run
            (0x79, 1, 10, -72, 0), // r1 = *(r10 - 72)
            (0x95, 0, 0, 0, 0),    // exit
        ]);
        assert_eq!(deepest(&program), Chain(vec![48, 80]));
        assert_eq!(deepest(&program).to_string(), "48 + 80 = 128 B of 512");
    }
}
