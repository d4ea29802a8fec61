"""What PyTorch makes of the same work: a Llama-like model with torch.compile, cuDNN attention, fused AdamW, bf16; on one
   GPU, fully sharded (FSDP2) or tensor parallel. Prints one line of JSON.
   python3 torch_train.py --model 1b --mode single --mb 4
   torchrun --nproc-per-node 2 torch_train.py --model 1b --mode fsdp --mb 4"""
import argparse, json, os, time, math, torch, torch.nn as nn, torch.nn.functional as F
import torch.distributed as dist
P=argparse.ArgumentParser()
P.add_argument('--model',default='1b'); P.add_argument('--mode',default='single'); P.add_argument('--mb',type=int,default=2)
P.add_argument('--accum',type=int,default=1); P.add_argument('--seq',type=int,default=4096); P.add_argument('--steps',type=int,default=8)
P.add_argument('--ckpt',type=int,default=0); P.add_argument('--compile',type=int,default=1); P.add_argument('--layers',type=int,default=0)
P.add_argument('--backend',default='cudnn'); P.add_argument('--zero',type=int,default=3)
a=P.parse_args()
C={'125m':(12,768,12,12,2048,32000),'1b':(16,2048,32,8,8192,32000),'3b':(28,3072,24,8,8192,32000),'7b':(32,4096,32,32,11008,32000),'8b':(32,4096,32,8,14336,32000)}[a.model]
L,H,NH,KV,FF,V=C; L=a.layers or L; D=H//NH
rank=int(os.environ.get('RANK',0)); W=int(os.environ.get('WORLD_SIZE',1)); lr_=int(os.environ.get('LOCAL_RANK',0))
torch.cuda.set_device(lr_); dev=torch.device('cuda',lr_)
if W>1: dist.init_process_group('nccl',device_id=dev)
torch.manual_seed(0); torch.set_float32_matmul_precision('high')
class RMS(nn.Module):
    def __init__(s,h): super().__init__(); s.weight=nn.Parameter(torch.ones(h))
    def forward(s,x): return F.rms_norm(x,(x.shape[-1],),s.weight,1e-5)
def rope(x,cos,sin):
    x1,x2=x.chunk(2,-1); return torch.cat((x1*cos-x2*sin,x2*cos+x1*sin),-1).to(x.dtype)
class Block(nn.Module):
    def __init__(s):
        super().__init__()
        s.n1=RMS(H); s.n2=RMS(H)
        s.wq=nn.Linear(H,H,bias=False); s.wk=nn.Linear(H,KV*D,bias=False); s.wv=nn.Linear(H,KV*D,bias=False); s.wo=nn.Linear(H,H,bias=False)
        s.w1=nn.Linear(H,FF,bias=False); s.w3=nn.Linear(H,FF,bias=False); s.w2=nn.Linear(FF,H,bias=False)
    def forward(s,x,cos,sin):
        h=s.n1(x); B,S,_=h.shape
        q=s.wq(h).view(B,S,-1,D).transpose(1,2); k=s.wk(h).view(B,S,-1,D).transpose(1,2); v=s.wv(h).view(B,S,-1,D).transpose(1,2)
        q=rope(q,cos,sin); k=rope(k,cos,sin)
        o=F.scaled_dot_product_attention(q,k,v,is_causal=True,enable_gqa=KV!=NH)
        x=x+s.wo(o.transpose(1,2).reshape(B,S,-1))
        h=s.n2(x); return x+s.w2(F.silu(s.w1(h))*s.w3(h))
class M(nn.Module):
    def __init__(s):
        super().__init__(); s.emb=nn.Embedding(V,H); s.layers=nn.ModuleList(Block() for _ in range(L)); s.nf=RMS(H); s.head=nn.Linear(H,V,bias=False)
    def forward(s,ids,tgt,cos,sin):
        x=s.emb(ids)
        for l in s.layers: x=l(x,cos,sin)
        return F.cross_entropy(s.head(s.nf(x)).float().view(-1,V),tgt.view(-1))
with torch.device('meta' if a.mode=='fsdp' else dev): m=M()
nparam=sum(p.numel() for p in m.parameters()); nemb=m.emb.weight.numel()
if a.ckpt:
    from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
    for i,l in enumerate(m.layers): m.layers[i]=checkpoint_wrapper(l,preserve_rng_state=False)
from torch.distributed.device_mesh import init_device_mesh
if a.mode=='tp':
    from torch.distributed.tensor.parallel import parallelize_module, ColwiseParallel as CP, RowwiseParallel as RP, SequenceParallel as SP, PrepareModuleInput as PI
    from torch.distributed.tensor import Shard, Replicate
    mesh=init_device_mesh('cuda',(W,))
    parallelize_module(m,mesh,{'emb':RP(input_layouts=Replicate(),output_layouts=Shard(1)),'nf':SP(),'head':CP(input_layouts=Shard(1),output_layouts=Replicate())})
    for l in m.layers:
        parallelize_module(l,mesh,{'n1':SP(),'n2':SP(),'wq':CP(input_layouts=Shard(1)),'wk':CP(input_layouts=Shard(1)),'wv':CP(input_layouts=Shard(1)),'wo':RP(output_layouts=Shard(1)),
          'w1':CP(input_layouts=Shard(1)),'w3':CP(input_layouts=Shard(1)),'w2':RP(output_layouts=Shard(1))})
if a.compile:
    torch._dynamo.config.inline_inbuilt_nn_modules=True
    for i,l in enumerate(m.layers): l.compile()
    if a.mode!='tp': m.nf.compile()
if a.mode=='fsdp':
    from torch.distributed.fsdp import fully_shard, MixedPrecisionPolicy
    mesh=init_device_mesh('cuda',(W,)); mp=MixedPrecisionPolicy(param_dtype=torch.bfloat16,reduce_dtype=torch.float32)
    for l in m.layers: fully_shard(l,mesh=mesh,mp_policy=mp,reshard_after_forward=a.zero==3)
    fully_shard(m,mesh=mesh,mp_policy=mp,reshard_after_forward=a.zero==3)
    m.to_empty(device=dev)
for p in m.parameters():
    if p.dim()>1: nn.init.normal_(p,std=0.02)
    else: nn.init.ones_(p)
opt=torch.optim.AdamW(m.parameters(),lr=1e-4,fused=True)
pos=torch.arange(a.seq,device=dev).float(); inv=1/(10000**(torch.arange(0,D,2,device=dev).float()/D)); fr=torch.outer(pos,inv); cos,sin=fr.cos(),fr.sin()
dp=W if a.mode in('fsdp','ddp') else 1
from torch.nn.attention import sdpa_kernel, SDPBackend
be={'cudnn':SDPBackend.CUDNN_ATTENTION,'flash':SDPBackend.FLASH_ATTENTION}[a.backend]
def step():
    for _ in range(a.accum):
        ids=torch.randint(0,V,(a.mb,a.seq),device=dev); tgt=torch.randint(0,V,(a.mb,a.seq),device=dev)
        if a.mode=='tp' and W>1: dist.broadcast(ids,0); dist.broadcast(tgt,0)
        with torch.autocast('cuda',torch.bfloat16,enabled=a.mode!='fsdp'), sdpa_kernel(be): loss=m(ids,tgt,cos,sin)/a.accum
        loss.backward()
    opt.step(); opt.zero_grad(set_to_none=True); return loss
for _ in range(3): step()
torch.cuda.synchronize(); torch.cuda.reset_peak_memory_stats(); ts=[]
for _ in range(a.steps):
    torch.cuda.synchronize(); t=time.perf_counter(); step(); torch.cuda.synchronize(); ts.append(time.perf_counter()-t)
t=sorted(ts)[len(ts)//2]; tok=a.mb*a.accum*a.seq*dp
fl=tok*(6*(nparam-nemb)+6*L*H*a.seq)   # causal attention counted at half
if rank==0: print(json.dumps(dict(model=a.model,layers=L,mode=a.mode,zero=a.zero,gpus=W,mb=a.mb,accum=a.accum,seq=a.seq,ckpt=a.ckpt,compile=a.compile,params=nparam,step_ms=t*1e3,min_ms=min(ts)*1e3,max_ms=max(ts)*1e3,tok_s_gpu=tok/t/W,model_tflops_gpu=fl/t/W/1e12,peak_gib=torch.cuda.max_memory_allocated()/2**30)),flush=True)
if W>1: dist.destroy_process_group()
