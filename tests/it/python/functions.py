# Run inside gdb: prints the function of every frame that lies on the stack of
# the only thread. Inlined ones do not, nor do those that jumped to another at
# their end.
import gdb

gdb.execute("set backtrace past-main on")
gdb.execute("set backtrace past-entry on")
frame = gdb.newest_frame()
while frame:
    if frame.type() not in (gdb.INLINE_FRAME, gdb.TAILCALL_FRAME):
        print("frame", frame.name())
    frame = frame.older()
