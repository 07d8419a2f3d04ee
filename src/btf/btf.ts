/** The types of a kernel or of a BPF object, as `/sys/kernel/btf/*` and `BPF_OBJ_GET_INFO_BY_FD` hold them. */
export interface Btf {
  /** How many types, with the base's and with void (id 0). */
  readonly typeCount: number;
}
