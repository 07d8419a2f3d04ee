/** The parts of @alexaltea/capstone-js that ktstr uses. The package has no types. */
declare module "@alexaltea/capstone-js" {
  interface Instruction {
    /** BigInt in this release, a number in older ones. */
    readonly address: bigint | number;
    /** In bytes. */
    readonly size: number;
    readonly mnemonic: string;
    readonly op_str: string;
  }
  interface Decoder {
    option(option: number, value: number): void;
    /**
     * `most` is the maximum number of instructions; 0 is unlimited. Throws a string if the first bytes are not an
     * instruction.
     */
    disasm(bytes: Uint8Array, address: bigint, most: number): Instruction[];
  }
  export interface Capstone {
    readonly ARCH_X86: number;
    readonly ARCH_ARM64: number;
    readonly MODE_64: number;
    readonly MODE_LITTLE_ENDIAN: number;
    readonly OPT_SYNTAX: number;
    readonly OPT_SYNTAX_ATT: number;
    readonly Capstone: new (arch: number, mode: number) => Decoder;
  }
  export default function load(how: { readonly locateFile: () => string }): Promise<Capstone>;
}

/** The path of the WebAssembly file. */
declare module "@alexaltea/capstone-js/dist/capstone.wasm" {
  const path: string;
  export default path;
}
