/** Machine code as `bpf_prog_get_info_by_fd` copies it: of the program, or of each of its functions. */
import { expect, test } from "bun:test";
import { readMachineCode } from "../../src/guest/bpf/machine-code.ts";
import type { MachineFunction } from "../../src/prog-code.ts";
import type { ProgInfo } from "../../src/state.ts";
import { ObjectMachine } from "./objects.ts";

interface Given {
  /** Machine code of each function of `aux->func[]`. */
  readonly functions?: readonly (readonly number[])[];
  readonly own?: readonly number[];
  readonly jitedLen?: number;
  readonly aux?: Readonly<Record<string, number>>;
}

function read({ functions = [], own = [], jitedLen = own.length, aux = {} }: Given): MachineFunction[] {
  const machine = new ObjectMachine();
  const place = (bytes: readonly number[]): bigint => {
    const at = machine.machine.allocate(4096);
    machine.machine.write(at, Uint8Array.from(bytes));
    return machine.address(at);
  };
  const list = functions.map((bytes) =>
    machine.address(machine.make("bpf_prog", { jited_len: bytes.length, bpf_func: place(bytes) })),
  );
  const owner = machine.make("bpf_prog_aux", {
    func_cnt: list.length,
    func: list.length > 0 ? machine.list(list) : 0,
    ...aux,
  });
  const prog = machine.make("bpf_prog", {
    jited_len: jitedLen,
    bpf_func: place(own),
    aux: machine.address(owner),
  });
  return readMachineCode(machine.kernel, { address: machine.address(prog) } as ProgInfo);
}

const bytesOf = (code: readonly MachineFunction[]): number[][] => code.map(({ bytes }) => [...bytes]);

test("a program without functions has its own code, and one with functions has their code", () => {
  expect(bytesOf(read({ own: [0x90, 0xc3] }))).toEqual([[0x90, 0xc3]]);
  expect(bytesOf(read({ own: [1, 2, 3], functions: [[0x90, 0xc3], [0xcc]] }))).toEqual([
    [0x90, 0xc3],
    [0xcc],
  ]);
});

test("interpreted and offloaded programs have none", () => {
  expect(read({ own: [0x90], jitedLen: 0 })).toEqual([]);
  expect(read({ own: [0x90], aux: { offload_requested: 1 } })).toEqual([]);
});

test("impossible lengths and counts are errors, and code outside the image is a fault", () => {
  expect(() => read({ jitedLen: 2 ** 31 })).toThrow("jited_len is 2147483648");
  expect(() => read({ own: [0x90], aux: { func_cnt: 1000 } })).toThrow("func_cnt is 1000");
  expect(() => read({ own: [0x90], jitedLen: 2 ** 26 })).toThrow("bpf_prog.bpf_func");
});
