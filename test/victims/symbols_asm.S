// Code as assembly writers leave it: labels without a type or a size, the second one to the end of its section.
    .text
    .globl symbols_asm_label
    .hidden symbols_asm_label
symbols_asm_label:
    nop
    nop
    nop
    nop
    ret

    .globl symbols_asm_after
    .hidden symbols_asm_after
symbols_asm_after:
    nop
    nop
    nop
    nop
    ret
    .section .note.GNU-stack,"",@progbits
