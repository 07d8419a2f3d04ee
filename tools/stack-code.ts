/**
 * Machine code that the executables call instead of glibc's `pthread_getattr_np` (`patch-stack.ts` has the reason). In C:
 *
 *     int error = pthread_getattr_np(thread, attr);
 *     if (error == 0)
 *         return 0;
 *     pthread_attr_init(attr);
 *     getauxval = dlsym(RTLD_DEFAULT, "getauxval");
 *     // The program's path is the last string on the main thread's stack (fs/exec.c, bprm_execve).
 *     if (getauxval == NULL || (top = getauxval(AT_EXECFN)) == 0)
 *         return error;
 *     top = (top + 4095) & -4096;
 *     if (getrlimit(RLIMIT_STACK, &limit) != 0)
 *         return error;
 *     size = min(limit.rlim_cur, 8 MiB) & -4096;
 *     // This is another thread's stack. glibc knows its bounds without /proc, so it failed for another reason.
 *     if (top - stack_pointer > size)
 *         return error;
 *     return pthread_attr_setstack(attr, top - size, size);
 */

/** Addresses that the code refers to. `slot` holds the address of the real `pthread_getattr_np`. */
export const TARGETS = ["slot", "pthread_attr_init", "dlsym", "getrlimit", "pthread_attr_setstack"] as const;
export type Targets = Readonly<Record<(typeof TARGETS)[number], number>>;
type Label = (typeof TARGETS)[number] | "name" | "failed" | "done";

/** How an instruction refers to a label. The names are the field's kind and its width in bits. */
type Field = "rel8" | "rel32" | "b26" | "b19" | "adr21" | "page21" | "add12" | "ldr12";
type Reference = readonly [field: Field, to: Label];

/** One instruction: its text as the disassembler prints it, its bytes without the reference, and the reference. */
export type Instruction = readonly [text: string, code: string | number, reference?: Reference];
type Line = Instruction | Label;

/** x86-64: bytes in hexadecimal; a reference is appended. Text in AT&T syntax. */
const X86_64: readonly Line[] = [
  ["push %rbx", "53"],
  ["sub $0x20,%rsp", "4883ec20"],
  ["mov %rsi,%rbx", "4889f3"],
  ["call *slot", "ff15", ["rel32", "slot"]],
  ["test %eax,%eax", "85c0"],
  ["je done", "0f84", ["rel32", "done"]],
  ["mov %eax,0x18(%rsp)", "89442418"],
  ["mov %rbx,%rdi", "4889df"],
  ["call pthread_attr_init", "e8", ["rel32", "pthread_attr_init"]],
  ["xor %edi,%edi", "31ff"],
  ["lea name,%rsi", "488d35", ["rel32", "name"]],
  ["call dlsym", "e8", ["rel32", "dlsym"]],
  ["test %rax,%rax", "4885c0"],
  ["je failed", "74", ["rel8", "failed"]],
  // AT_EXECFN
  ["mov $0x1f,%edi", "bf1f000000"],
  ["call *%rax", "ffd0"],
  ["test %rax,%rax", "4885c0"],
  ["je failed", "74", ["rel8", "failed"]],
  ["add $0xfff,%rax", "4805ff0f0000"],
  ["and $0xfffffffffffff000,%rax", "482500f0ffff"],
  ["mov %rax,0x10(%rsp)", "4889442410"],
  // RLIMIT_STACK
  ["mov $0x3,%edi", "bf03000000"],
  ["mov %rsp,%rsi", "4889e6"],
  ["call getrlimit", "e8", ["rel32", "getrlimit"]],
  ["test %eax,%eax", "85c0"],
  ["jne failed", "75", ["rel8", "failed"]],
  ["mov $0x800000,%edx", "ba00008000"],
  ["cmp %rdx,(%rsp)", "48391424"],
  ["cmovb (%rsp),%rdx", "480f421424"],
  ["and $0xfffffffffffff000,%rdx", "4881e200f0ffff"],
  ["mov 0x10(%rsp),%rsi", "488b742410"],
  ["mov %rsi,%rax", "4889f0"],
  ["sub %rsp,%rax", "4829e0"],
  ["cmp %rdx,%rax", "4839d0"],
  ["ja failed", "77", ["rel8", "failed"]],
  ["sub %rdx,%rsi", "4829d6"],
  ["mov %rbx,%rdi", "4889df"],
  ["call pthread_attr_setstack", "e8", ["rel32", "pthread_attr_setstack"]],
  ["jmp done", "eb", ["rel8", "done"]],
  "failed",
  ["mov 0x18(%rsp),%eax", "8b442418"],
  "done",
  ["add $0x20,%rsp", "4883c420"],
  ["pop %rbx", "5b"],
  ["ret", "c3"],
];

/** arm64: words, with zeros in the bits of a reference. The function in the slot is called as a PLT entry calls it. */
const AARCH64: readonly Line[] = [
  ["stp x29, x30, [sp, #-0x40]!", 0xa9bc7bfd],
  ["mov x29, sp", 0x910003fd],
  ["str x19, [sp, #0x10]", 0xf9000bf3],
  ["mov x19, x1", 0xaa0103f3],
  ["adrp x16, page(slot)", 0x90000010, ["page21", "slot"]],
  ["ldr x17, [x16, low(slot)]", 0xf9400211, ["ldr12", "slot"]],
  ["add x16, x16, low(slot)", 0x91000210, ["add12", "slot"]],
  ["blr x17", 0xd63f0220],
  ["cbz w0, done", 0x34000000, ["b19", "done"]],
  ["str w0, [sp, #0x18]", 0xb9001be0],
  ["mov x0, x19", 0xaa1303e0],
  ["bl pthread_attr_init", 0x94000000, ["b26", "pthread_attr_init"]],
  ["mov x0, #0", 0xd2800000],
  ["adr x1, name", 0x10000001, ["adr21", "name"]],
  ["bl dlsym", 0x94000000, ["b26", "dlsym"]],
  ["cbz x0, failed", 0xb4000000, ["b19", "failed"]],
  ["mov x8, x0", 0xaa0003e8],
  // AT_EXECFN
  ["mov x0, #0x1f", 0xd28003e0],
  ["blr x8", 0xd63f0100],
  ["cbz x0, failed", 0xb4000000, ["b19", "failed"]],
  ["add x0, x0, #0xfff", 0x913ffc00],
  ["and x0, x0, #0xfffffffffffff000", 0x9274cc00],
  ["str x0, [sp, #0x20]", 0xf90013e0],
  // RLIMIT_STACK
  ["mov x0, #3", 0xd2800060],
  ["add x1, sp, #0x30", 0x9100c3e1],
  ["bl getrlimit", 0x94000000, ["b26", "getrlimit"]],
  ["cbnz w0, failed", 0x35000000, ["b19", "failed"]],
  ["ldr x2, [sp, #0x30]", 0xf9401be2],
  ["mov x3, #0x800000", 0xd2a01003],
  ["cmp x2, x3", 0xeb03005f],
  ["csel x2, x2, x3, lo", 0x9a833042],
  ["and x2, x2, #0xfffffffffffff000", 0x9274cc42],
  ["ldr x1, [sp, #0x20]", 0xf94013e1],
  ["mov x3, sp", 0x910003e3],
  ["sub x3, x1, x3", 0xcb030023],
  ["cmp x3, x2", 0xeb02007f],
  ["b.hi failed", 0x54000008, ["b19", "failed"]],
  ["sub x1, x1, x2", 0xcb020021],
  ["mov x0, x19", 0xaa1303e0],
  ["bl pthread_attr_setstack", 0x94000000, ["b26", "pthread_attr_setstack"]],
  ["b done", 0x14000000, ["b26", "done"]],
  "failed",
  ["ldr w0, [sp, #0x18]", 0xb9401be0],
  "done",
  ["ldr x19, [sp, #0x10]", 0xf9400bf3],
  ["ldp x29, x30, [sp], #0x40", 0xa8c47bfd],
  ["ret", 0xd65f03c0],
];

const NAME = new TextEncoder().encode("getauxval\0");

/** Encodes the code for an address. `labels` has the addresses of its labels and of its targets. */
export function stackCode(
  machine: "x86_64" | "aarch64",
  address: number,
  targets: Targets,
): {
  readonly bytes: Uint8Array;
  readonly lines: readonly Instruction[];
  readonly labels: Map<string, number>;
} {
  const table = machine === "x86_64" ? X86_64 : AARCH64;
  const labels = new Map<string, number>(Object.entries(targets));
  const lines: Instruction[] = [];
  let end = address;
  for (const line of table) {
    if (typeof line === "string") labels.set(line, end);
    else {
      lines.push(line);
      end += lengthOf(line);
    }
  }
  labels.set("name", end);
  const bytes = new Uint8Array(end - address + NAME.length);
  let at = 0;
  for (const line of lines) {
    bytes.set(encode(line, address + at, labels), at);
    at += lengthOf(line);
  }
  bytes.set(NAME, at);
  return { bytes, lines, labels };
}

function lengthOf([, code, reference]: Instruction): number {
  if (typeof code === "number") return 4;
  const fieldBytes = reference === undefined ? 0 : reference[0] === "rel8" ? 1 : 4;
  return code.length / 2 + fieldBytes;
}

function encode(line: Instruction, address: number, labels: ReadonlyMap<string, number>): Uint8Array {
  const [text, code, reference] = line;
  const bytes = new Uint8Array(lengthOf(line));
  if (typeof code === "string") bytes.set(Uint8Array.fromHex(code));
  else new DataView(bytes.buffer).setUint32(0, code, true);
  if (reference === undefined) return bytes;
  const [field, label] = reference;
  const to = labels.get(label) ?? Number.NaN;
  try {
    refer(new DataView(bytes.buffer), field, address, to);
  } catch (error) {
    throw new Error(`${text} at 0x${address.toString(16)}`, { cause: error });
  }
  return bytes;
}

/** Writes a reference from the instruction in `view`, which is at `address`, to `to`. */
function refer(view: DataView, field: Field, address: number, to: number): void {
  const end = address + view.byteLength;
  if (field === "rel8") view.setInt8(view.byteLength - 1, signed(to - end, 8));
  else if (field === "rel32") view.setInt32(view.byteLength - 4, signed(to - end, 32), true);
  else view.setUint32(0, view.getUint32(0, true) | immediate(field, address, to), true);
}

/** Returns the bits of an arm64 instruction that hold the reference. */
function immediate(field: Exclude<Field, "rel8" | "rel32">, address: number, to: number): number {
  const page = (value: number): number => Math.floor(value / 4096);
  switch (field) {
    case "b26":
      return signed((to - address) / 4, 26) & 0x3ff_ffff;
    case "b19":
      return (signed((to - address) / 4, 19) & 0x7_ffff) << 5;
    case "adr21":
      return adrImmediate(signed(to - address, 21));
    case "page21":
      return adrImmediate(signed(page(to) - page(address), 21));
    case "add12":
      return (to % 4096) << 10;
    case "ldr12":
      return ((to % 4096) / 8) << 10;
  }
}

/** The immediate of ADR and ADRP: its two lowest bits are bits 29 and 30. */
const adrImmediate = (value: number): number => ((value & 3) << 29) | (((value >> 2) & 0x7_ffff) << 5);

/** Throws `RangeError` if `value` is not an integer or does not fit. */
function signed(value: number, bits: number): number {
  if (!Number.isInteger(value) || Math.abs(value + 0.5) > 2 ** (bits - 1))
    throw new RangeError(`${value} does not fit in ${bits} bits`);
  return value;
}

/** Returns the instruction at the start of a PLT entry that jumps to the code instead of through the entry's slot. */
export function jumpTo(machine: "x86_64" | "aarch64", from: number, to: number): Uint8Array {
  const line: Instruction =
    machine === "x86_64" ? ["jmp", "e9", ["rel32", "done"]] : ["b", 0x14000000, ["b26", "done"]];
  return encode(line, from, new Map([["done", to]]));
}
