/** What is used of @alexaltea/capstone-js, which comes without types. */
declare module "@alexaltea/capstone-js" {
  interface Instruction {
    /** BigInt in this release; a number in older ones. */
    readonly address: bigint | number;
    /** Bytes. */
    readonly size: number;
    readonly mnemonic: string;
    readonly op_str: string;
  }
  interface Decoder {
    option(option: number, value: number): void;
    /** `most`: of instructions; 0: all. Throws a string where the first bytes are no instruction. */
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

/** The path of the file. */
declare module "@alexaltea/capstone-js/dist/capstone.wasm" {
  const path: string;
  export default path;
}
