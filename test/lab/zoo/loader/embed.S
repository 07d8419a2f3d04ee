/* SPDX-License-Identifier: Apache-2.0 */
/* Embeds the objects in the loader, so that a guest needs one file. libelf needs them aligned. */
.macro object name
	.section .rodata
	.balign 16
	.globl zoo_\name\()_start, zoo_\name\()_end
zoo_\name\()_start:
	.incbin "\name\().bpf.o"
zoo_\name\()_end:
	.byte 0
.endm

object typed
object globals
object storage
object rings
object cgroup
object trace
object net
object ext
object tcpcc
object arena
object special

.section .note.GNU-stack,"",%progbits
