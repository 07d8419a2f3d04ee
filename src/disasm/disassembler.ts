/**
 * Machine code as text, by Capstone (its WebAssembly build, 3.6 MB). Only `prog dump jited` loads it. Capstone decodes; on x86-64
 * x86-text.ts writes what it says in the words of binutils, which bpftool is built with.
 */
import type { Capstone } from "@alexaltea/capstone-js";
import { KtstrError } from "../errors.ts";
import type { Disassembler, MachineInsn } from "../prog-code.ts";
import { x86Text } from "./x86-text.ts";

/** An instruction object has 240 bytes in the library's memory: a few of them at a time. */
const MOST_AT_ONCE = 4096;
/** The longest instruction of x86-64, and more than one of arm64. */
const LONGEST_BYTES = 15;

/** `machine` as `uname -m` says it. Throws `KtstrError` for one that is neither x86-64 nor arm64. */
export async function loadDisassembler(machine: string): Promise<Disassembler> {
  const isArm = machine === "aarch64";
  if (!isArm && machine !== "x86_64")
    throw new KtstrError(`prog dump jited: ktstr has no disassembler for ${machine}`, {
      hint: "`file F` writes the machine code as it is",
    });
  const capstone = await loadCapstone();
  const decoder = isArm
    ? new capstone.Capstone(capstone.ARCH_ARM64, capstone.MODE_LITTLE_ENDIAN)
    : new capstone.Capstone(capstone.ARCH_X86, capstone.MODE_64);
  if (!isArm) decoder.option(capstone.OPT_SYNTAX, capstone.OPT_SYNTAX_ATT);

  return {
    *decode(bytes, address) {
      for (let at = 0; at < bytes.length; ) {
        const rest = bytes.subarray(at, at + MOST_AT_ONCE * LONGEST_BYTES);
        let decoded = 0;
        for (const { size, mnemonic, op_str } of some(() =>
          decoder.disasm(rest, address + BigInt(at), MOST_AT_ONCE),
        )) {
          const own = bytes.subarray(at + decoded, at + decoded + size);
          const operands = splitOperands(op_str);
          const text = isArm ? { operation: mnemonic, operands } : x86Text(mnemonic, operands, own);
          yield { offset: at + decoded, length: size, ...text };
          decoded += size;
        }
        at += decoded;
        if (decoded > 0) continue;
        const undecoded = noInsn(bytes, at, isArm);
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
    // The packed command has it beside itself (tools/pack.ts), the executable within (tools/build.ts).
    throw new KtstrError(
      `the disassembler, the package @alexaltea/capstone-js, cannot be loaded: ${String(error)}`,
      {
        hint: "install ktstr anew, or that package beside it; `file FILE` writes the machine code as it is",
      },
    );
  }
}

/** Where nothing can be decoded the library throws a string. */
function some<T>(decode: () => T[]): T[] {
  try {
    return decode();
  } catch (error) {
    if (typeof error === "string") return [];
    throw error;
  }
}

/** Bytes that are no instruction that Capstone knows, in binutils' words. */
function noInsn(bytes: Uint8Array, offset: number, isArm: boolean): MachineInsn {
  if (!isArm) return { offset, length: 1, operation: "(bad)", operands: [] };
  const word = bytes.slice(offset, offset + 4);
  const value = `0x${Buffer.from(word.reverse()).toString("hex")}`;
  return { offset, length: word.length, operation: ".inst", operands: [value] };
}

/** Commas within brackets do not separate operands. */
function splitOperands(text: string): string[] {
  return text === "" ? [] : text.split(/, (?![^([{]*[)\]}])/);
}
