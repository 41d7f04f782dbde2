"Training a language model on a GPU: fastai's `to_fp16`, ours in bf16, 128 rows of 72 tokens"
from common import an_epoch, full, stream_of
from train_step import fastai_lm, operations, our_lm, same  # noqa: F401 (the runner asks each row for it)

unit, target = 'tokens/s', 1.5
bs, seq_len = 128, 72
cases = {'400/1152 x 3, 30,000 words': dict(cfg=full, words=30_000, steps=30)}
quick = {'400/1152 x 3, 30,000 words': dict(cfg=full, words=30_000, steps=10)}

def passes(make, cfg, words, steps):
    import torch
    stream = stream_of(5000, words)[:bs*(seq_len*steps+1)]
    learn = make(stream, stream, cfg, bs=bs)
    if make is fastai_lm: learn.to_fp16()
    learn.model.cuda()
    learn.create_opt()
    learn.dls.train.to('cuda')
    epoch = an_epoch(learn)
    torch.cuda.reset_peak_memory_stats()
    def work():
        epoch()
        torch.cuda.synchronize()
        measured.update(added_mb=torch.cuda.max_memory_allocated()/2**20)
    return work, bs*seq_len*steps

measured = {}   # the GPU's memory stands in the place of the processor's

def fastai(cfg, words, steps): return passes(fastai_lm, cfg, words, steps)
def ours(cfg, words, steps): return passes(our_lm, cfg, words, steps)

def limit(machine, cfg, words, steps):
    "The operations of a token, in bf16 on the card"
    import time, torch
    a = torch.randn(8192, 8192, device='cuda', dtype=torch.bfloat16)
    def once():
        torch.cuda.synchronize(); start = time.perf_counter()
        a @ a
        torch.cuda.synchronize(); return time.perf_counter() - start
    return 2*8192**3/min(once() for _ in range(10))/operations(cfg, words)
