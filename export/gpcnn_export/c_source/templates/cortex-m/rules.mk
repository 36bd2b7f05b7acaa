
BARE_CC ?= arm-none-eabi-gcc
BARE_FLAGS ?= -mcpu=cortex-m4 -mthumb -mfloat-abi=hard -mfpu=fpv4-sp-d16

cortex-m/draw.elf: cortex-m/main.c cortex-m/mps2.ld gpcnn.c gpcnn.h model.c model.h
	$(BARE_CC) -std=gnu11 -O3 $(BARE_FLAGS) -ffreestanding -DGPCNN_NO_LIBC -ffunction-sections -fno-unwind-tables -I . cortex-m/main.c \
	  gpcnn.c model.c -nostdlib -Wl,--gc-sections -T cortex-m/mps2.ld -lgcc -o $@
