/**
 * Disassembles machine code with Capstone (its WebAssembly build, 3.6 MB). Only `prog dump jited` loads it. On x86-64,
 * x86-text.ts converts Capstone's output to the spelling of binutils, which bpftool uses.
 */
import type { Capstone } from "@alexaltea/capstone-js";
import { KtstrError } from "../errors.ts";
import type { Disassembler, MachineInsn } from "../prog-code.ts";
import { x86Text } from "./x86-text.ts";

/** Instructions per call: an instruction object takes 240 bytes of the library's memory. */
const INSNS_PER_CALL = 4096;
/** Longest instruction of x86-64; arm64 instructions are shorter. */
const LONGEST_BYTES = 15;

/** Loads Capstone for a machine, named as in `uname -m`. Throws `KtstrError` if it is neither x86-64 nor arm64. */
export async function loadDisassembler(machine: string): Promise<Disassembler> {
  const isArm = machine === "aarch64";
  if (!isArm && machine !== "x86_64")
    throw new KtstrError(`prog dump jited: ktstr has no disassembler for ${machine}`, {
      hint: "`file F` writes the raw machine code",
    });
  const capstone = await loadCapstone();
  const decoder = isArm
    ? new capstone.Capstone(capstone.ARCH_ARM64, capstone.MODE_LITTLE_ENDIAN)
    : new capstone.Capstone(capstone.ARCH_X86, capstone.MODE_64);
  if (!isArm) decoder.option(capstone.OPT_SYNTAX, capstone.OPT_SYNTAX_ATT);

  return {
    *decode(bytes, address) {
      for (let at = 0; at < bytes.length; ) {
        const rest = bytes.subarray(at, at + INSNS_PER_CALL * LONGEST_BYTES);
        let decoded = 0;
        for (const { size, mnemonic, op_str } of decodeOrEmpty(() =>
          decoder.disasm(rest, address + BigInt(at), INSNS_PER_CALL),
        )) {
          const own = bytes.subarray(at + decoded, at + decoded + size);
          const operands = splitOperands(op_str);
          const text = isArm ? { operation: mnemonic, operands } : x86Text(mnemonic, operands, own);
          yield { offset: at + decoded, length: size, ...text };
          decoded += size;
        }
        at += decoded;
        if (decoded > 0) continue;
        const undecoded = undecodable(bytes, at, isArm);
        yield undecoded;
        at += undecoded.length;
      }
    },
  };
}

async function loadCapstone(): Promise<Capstone> {
  try {
    const { default: load } = await import("@alexaltea/capstone-js");
    const { default: wasm } = await import("@alexaltea/capstone-js/dist/capstone.wasm", {
      with: { type: "file" },
    });
    return await load({ locateFile: () => wasm });
  } catch (error) {
    // In the packed command the file is beside it (tools/pack.ts); in the executable it is embedded (tools/build.ts).
    throw new KtstrError(
      `the disassembler, the package @alexaltea/capstone-js, cannot be loaded: ${String(error)}`,
      {
        hint: "reinstall ktstr, or install that package beside it; `file FILE` writes the raw machine code",
      },
    );
  }
}

/** The library throws a string if it cannot decode anything. */
function decodeOrEmpty<T>(decode: () => T[]): T[] {
  try {
    return decode();
  } catch (error) {
    if (typeof error === "string") return [];
    throw error;
  }
}

/** Returns bytes that Capstone cannot decode as text, as binutils prints them. */
function undecodable(bytes: Uint8Array, offset: number, isArm: boolean): MachineInsn {
  if (!isArm) return { offset, length: 1, operation: "(bad)", operands: [] };
  const word = bytes.slice(offset, offset + 4);
  const value = `0x${Buffer.from(word.reverse()).toString("hex")}`;
  return { offset, length: word.length, operation: ".inst", operands: [value] };
}

/** Splits at commas that are not inside brackets. */
function splitOperands(text: string): string[] {
  return text === "" ? [] : text.split(/, (?![^([{]*[)\]}])/);
}
