"""ControlNets as a service: how a request is attached to one in another process, on this GPU, another one or the CPU.

The lane's side: `attachment` offers a `mailbox` and gives a link (`ipc_link` or `bls_link`) to the loop.
The service's side: `session` serves one attached request, its steps by calls or by `pushing` them into the mailbox.
A `catalogue` tells the lane which model serves which ControlNet, and `repair` brings back models that died, for all
lanes one at a time (`claim`). A service's `shelf` holds the ControlNets of its `library` within a budget of memory.
"""
