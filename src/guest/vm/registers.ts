/** Reads the CPUs' registers from QEMU's human monitor, in the form of an ELF core's NT_PRSTATUS notes. */
import { viewOf } from "../../uapi/layout.ts";
import { ELF_PRSTATUS, PRSTATUS_REGISTERS } from "../../uapi/prstatus.ts";
import type { Qmp } from "./qmp.ts";

/** Limit: the registers of this many CPUs, 3 KB each, fit in a message (qmp.ts). */
const MAX_CPUS = 4096;
/** arm64 has 34 (`struct user_pt_regs`), x86-64 has 27 (`struct user_regs_struct`). */
const REGISTERS = 34;

/** Returns one note for each CPU, or none if the machine runs: then each CPU's registers would be read at a different time. */
export function prstatusOf(qmp: Qmp): Uint8Array[] {
  if (qmp.command("query-status")["running"] === true) return [];
  return parseRegisters(qmp.monitor("info registers -a"));
}

/**
 * Parses the output of `info registers -a`: "CPU#0", then "RIP=ffffffff81e6b5fb RFL=00000246", "CS =0010 ..." on x86
 * (target/i386/cpu-dump.c), "PC=...", " X29=...", "PSTATE=600000c5" on arm64 (target/arm/cpu.c, `aarch64_cpu_dump_state`).
 * A CPU without one of them gets no note. The pids number the CPUs from 1, as in QEMU's dumps.
 */
export function parseRegisters(text: string): Uint8Array[] {
  const sections = text.split(/^CPU#(?=\d)/m).slice(1, MAX_CPUS + 1);
  return sections.flatMap((section) => {
    const cpu = Number.parseInt(section, 10);
    const named = new Map<string, bigint>();
    for (const [, name = "", digits = ""] of section.matchAll(/\b([A-Z][A-Z0-9]{1,5}) ?=([0-9a-f]{4,16})\b/g))
      if (!named.has(name)) named.set(name, BigInt(`0x${digits}`));
    const isArm = named.has("PSTATE");
    const places = PRSTATUS_REGISTERS[isArm ? "aarch64" : "x86_64"];
    const values: readonly (readonly [number, bigint | undefined])[] = isArm
      ? [
          [places.fp, named.get("X29")],
          [places.sp, named.get("SP")],
          [places.ip, named.get("PC")],
          [places.flags, named.get("PSTATE")],
        ]
      : [
          [places.fp, named.get("RBP")],
          [places.sp, named.get("RSP")],
          [places.ip, named.get("RIP")],
          [places.mode, named.get("CS")],
          [places.flags, named.get("RFL")],
        ];
    const { pid, reg } = ELF_PRSTATUS.fields;
    const note = new Uint8Array(reg.offset + 8 * REGISTERS);
    const view = viewOf(note);
    view.setUint32(pid.offset, cpu + 1, true);
    for (const [index, value] of values) {
      if (value === undefined) return [];
      view.setBigUint64(reg.offset + 8 * index, value, true);
    }
    return [note];
  });
}
