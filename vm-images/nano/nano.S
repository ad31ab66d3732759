/*
 * A whole guest in a few hundred bytes: entered through PVH, it says on the serial lines what a guest's
 * init says (runtime/vm/guest/init.c), waits for a word from the host, and resets the machine, which ends
 * the domain. How long it takes is what the virtual machine monitor takes by itself.
 *
 * The state at the entry is that of Xen's docs/misc/pvh.pandoc: 32-bit protected mode, flat segments,
 * no paging, interrupts off, and a descriptor table that may lie anywhere.
 */

#define COM2 0x2f8 /* marks to the host, orders from it */
#define COM3 0x3e8 /* the workload's output */
#define LINE_STATUS 5
#define TRANSMITTER_EMPTY 0x20
#define INTERRUPT_ENABLE 1
#define RECEIVED_DATA 1
#define MODEM_CONTROL 4
#define INTERRUPTS_OUT 0x0b /* OUT2 connects the line's interrupt, with DTR and RTS */

#define PIC1 0x20
#define PIC2 0xa0
#define FIRST_VECTOR 0x20
#define COM2_IRQ 3
#define KEYBOARD_CONTROLLER 0x64
#define RESET 0xfe

#define CODE 8

	.section .note.Xen, "a", @note
	.balign 4
	.long 4, 8, 18 /* lengths of name and content, XEN_ELFNOTE_PHYS32_ENTRY */
	.asciz "Xen"
	.quad start

	.text
	.code32
	.globl start
start:
	movl	$stack_end, %esp
	movw	$COM2, %dx
	movl	$marks, %esi
	call	print
	movw	$COM3, %dx
	movl	$output, %esi
	call	print
	lgdt	gdt_pointer
	ljmp	$CODE, $flat
flat:
	call	route_interrupts
	lidt	idt_pointer
	movw	$COM2 + INTERRUPT_ENABLE, %dx
	movb	$RECEIVED_DATA, %al
	outb	%al, %dx
	movw	$COM2 + MODEM_CONTROL, %dx
	movb	$INTERRUPTS_OUT, %al
	outb	%al, %dx
	sti
wait:
	hlt
	jmp	wait

/* Writes the text at %esi, ended by a zero, to the serial line at %dx. */
print:
	lodsb
	testb	%al, %al
	jz	2f
	movb	%al, %ah
	addw	$LINE_STATUS, %dx
1:	inb	%dx, %al
	testb	$TRANSMITTER_EMPTY, %al
	jz	1b
	subw	$LINE_STATUS, %dx
	movb	%ah, %al
	outb	%al, %dx
	jmp	print
2:	ret

/* The two 8259 interrupt controllers: nothing but the line's own interrupt gets through. */
route_interrupts:
	movb	$0x11, %al /* initialise, four words, cascaded */
	outb	%al, $PIC1
	outb	%al, $PIC2
	movb	$FIRST_VECTOR, %al
	outb	%al, $PIC1 + 1
	movb	$FIRST_VECTOR + 8, %al
	outb	%al, $PIC2 + 1
	movb	$4, %al /* the second one is at line 2 of the first */
	outb	%al, $PIC1 + 1
	movb	$2, %al
	outb	%al, $PIC2 + 1
	movb	$1, %al /* 8086 mode */
	outb	%al, $PIC1 + 1
	outb	%al, $PIC2 + 1
	movb	$~(1 << COM2_IRQ) & 0xff, %al
	outb	%al, $PIC1 + 1
	movb	$0xff, %al
	outb	%al, $PIC2 + 1
	ret

/* The host says no more than one thing, so its first byte is enough. */
	.globl	stop
stop:
	movw	$COM2, %dx
	movl	$goodbye, %esi
	call	print
	movb	$RESET, %al
	outb	%al, $KEYBOARD_CONTROLLER
	/* A machine without that controller resets on a fault that it has no handler for. */
	lidt	nothing
	int3

	.section .rodata
marks:
	.asciz "kernel\nsandbox\nexecve\n"
output:
	.asciz "ready\n"
goodbye:
	.asciz "exit 0\n"

	.balign 8
gdt:
	.quad 0
	.quad 0x00cf9b000000ffff /* code: 4 GiB from 0 */
gdt_pointer:
	.word . - gdt - 1
	.long gdt
	.balign 8
idt_pointer:
	.word idt_end - idt - 1
	.long idt
nothing:
	.word 0
	.long 0

	.data
	.balign 8
idt:
	.fill FIRST_VECTOR + COM2_IRQ, 8, 0
	/* An interrupt gate (type 14, present) to `stop`, which lies above 64 KiB and below 16 MiB: the linker
	   script puts everything at one megabyte, so the upper half of the address is known here. */
	.word stop_low, CODE, 0x8e00, 0x0010
idt_end:

	.bss
	.balign 16
	.skip 256
stack_end:
