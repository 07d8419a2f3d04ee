/** Constants of QEMU's migration stream, with QEMU's names. All numbers are big-endian. */

/** migration/savevm.h: `QEMU_VM_*`. */
export const QEMU_VM_FILE_VERSION = 3;
export const QEMU_VM_SECTION_START = 0x01;
export const QEMU_VM_SECTION_PART = 0x02;
export const QEMU_VM_SECTION_END = 0x03;
export const QEMU_VM_SUBSECTION = 0x05;
export const QEMU_VM_CONFIGURATION = 0x07;
export const QEMU_VM_COMMAND = 0x08;
export const QEMU_VM_SECTION_FOOTER = 0x7e;

/** migration/ram.c: `RAM_SAVE_FLAG_*`, stored in the low bits of a page's offset. */
export const RAM_SAVE_FLAG_ZERO = 0x02;
export const RAM_SAVE_FLAG_MEM_SIZE = 0x04;
export const RAM_SAVE_FLAG_PAGE = 0x08;
export const RAM_SAVE_FLAG_EOS = 0x10;
export const RAM_SAVE_FLAG_CONTINUE = 0x20;
export const RAM_SAVE_FLAG_XBZRLE = 0x40;
export const RAM_SAVE_FLAG_COMPRESS_PAGE = 0x100;
/** Since QEMU 8.1. */
export const RAM_SAVE_FLAG_MULTIFD_FLUSH = 0x200;
