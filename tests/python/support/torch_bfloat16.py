"""What PyTorch's own LSTM can do in bfloat16 on this machine. Imported only where PyTorch is installed."""

import torch

# Whether PyTorch's own LSTM can run under autocast. Its code for bfloat16, oneDNN's, needs AVX-512 (BW, VL and DQ), and
# without that it fails: "could not create a primitive descriptor".
RUNS_IN_BFLOAT16 = torch.ops.mkldnn._is_mkldnn_bf16_supported()
NEEDS_BFLOAT16 = "PyTorch's own LSTM fails under autocast on a CPU without AVX-512, so there is nothing to compare with"
