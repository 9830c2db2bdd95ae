---@meta torch

-- The tensors that `require 'ipc.torch'` gives where Torch7 is not installed, annotated for the Lua language server.
-- Every method
-- of tensors is also a function, `torch.NAME([res,] t, …)`: where the method works in place, the function makes a new
-- tensor, or
-- fills the one given first. spec/tensor_spec.lua compares this file with what is there.

--- Tensors with Torch7's names and meanings. `torch.FloatTensor(2, 3)` and its kin (Byte Char Short Int Long Float
--- Double Half
--- BFloat16) make them from nothing, sizes, a LongStorage of sizes, a storage with offset, sizes and strides, another
--- tensor
--- (a view of it), or nested tables; `torch.Tensor` makes the default type.
---@class torch
---@field Tensor fun(...): torch.Tensor
---@field Storage fun(...): torch.Storage
---@field ByteTensor fun(...): torch.Tensor
---@field ByteStorage fun(...): torch.Storage
---@field CharTensor fun(...): torch.Tensor
---@field CharStorage fun(...): torch.Storage
---@field ShortTensor fun(...): torch.Tensor
---@field ShortStorage fun(...): torch.Storage
---@field IntTensor fun(...): torch.Tensor
---@field IntStorage fun(...): torch.Storage
---@field LongTensor fun(...): torch.Tensor
---@field LongStorage fun(...): torch.LongStorage
---@field FloatTensor fun(...): torch.Tensor
---@field FloatStorage fun(...): torch.Storage
---@field DoubleTensor fun(...): torch.Tensor
---@field DoubleStorage fun(...): torch.Storage
---@field HalfTensor fun(...): torch.Tensor
---@field HalfStorage fun(...): torch.Storage
---@field BFloat16Tensor fun(...): torch.Tensor
---@field BFloat16Storage fun(...): torch.Storage
---@field Timer fun(): table counts seconds: `time()` → `{ real =, user =, sys = }`, `stop`, `resume`, `reset`
---@field [string] fun(...): any the methods of tensors, as functions
local torch = {}

-- ## The module

--- The name of a torch class or of a type of Lua's.
---@param x any
---@return string
function torch.type(x) end

--- The name of a torch class.
---@param x any
---@return string?
function torch.typename(x) end

--- Whether `x` is a tensor.
---@param x any
---@return boolean
function torch.isTensor(x) end

--- Whether `x` is a storage.
---@param x any
---@return boolean
function torch.isStorage(x) end

--- Whether `x` is of a class (its name, a pattern of names as `string.find` takes it, its metatable or constructor) or
--- of a subclass.
---@param x any
---@param class any
---@return boolean
function torch.isTypeOf(x, class) end

--- Makes a class: its metatable, and its parent's. The constructor calls `__init`; `__add__` and so on are operators.
---@param name string
---@param parent? string
---@param module? table
---@return table, table?
function torch.class(name, parent, module) end

--- A function that makes objects of a class without initialising them, empty tensors or storages.
---@param name string
---@return function
function torch.factory(name) end

--- The metatable of a class.
---@param name string
---@return table?
function torch.getmetatable(name) end

--- Makes a table an object of a class.
---@param object any
---@param name string
---@return table
function torch.setmetatable(object, name) end

--- What makes objects of a class.
---@param name string
---@return table?
function torch.getconstructortable(name) end

--- The same as `ipc.sharedTensor`.
---@param type string
---@param ... integer|torch.Storage|integer[] its sizes
---@return torch.Tensor
function torch.sharedTensor(type, ...) end

--- What `torch.Tensor` and the functions that make tensors make: a type with fractions.
---@param name string
function torch.setdefaulttensortype(name) end

--- `'torch.DoubleTensor'` unless it was set.
---@return string
function torch.getdefaulttensortype() end

--- From here on the same random numbers on every run.
---@param seed integer
function torch.manualSeed(seed) end

--- Other random numbers every time; the seed.
---@return number
function torch.seed() end

--- The seed in use.
---@return number
function torch.initialSeed() end

--- Writes a value to a file: `'binary'` (Torch's `.t7`) or `'ascii'`; functions only with `{ functions = true }`.
--- The file is the one before until all of the new one is there.
---@param path string
---@param value any
---@param form? string
---@param options? ipc.CodeOptions
function torch.save(path, value, form, options) end

--- Reads what `save`, or Torch, wrote.
---@param path string
---@param form? string
---@param options? ipc.CodeOptions
---@return any
function torch.load(path, form, options) end

--- As `save`, to a string.
---@param value any
---@param form? string
---@param options? ipc.CodeOptions
---@return string
function torch.serialize(value, form, options) end

--- As `load`, from a string.
---@param bytes string
---@param form? string
---@param options? ipc.CodeOptions
---@return any
function torch.deserialize(bytes, form, options) end

--- A parser of command lines, with the methods `text(s)`, `argument(name, help, [kind])`, `option(name, default, help,
--- [kind])`, `parse([words])` (a table of the values by name), `help()`, `string(prefix, values, [ignored])`,
--- `log(file, [values])`, `addTime([name], [format])`, `silent()` and `default()`: doc/tensor.md.
---@param argSeparator? string
---@param keySeparator? string
---@return table
function torch.CmdLine(argSeparator, keySeparator) end

--- The time, in seconds from some moment on.
---@return number
function torch.tic() end

--- Seconds since a `tic`.
---@param start number
---@return number
function torch.toc(start) end

--- 1: one thread computes.
---@return integer
function torch.getnumthreads() end

--- Taken for the sake of scripts that call it.
---@param n integer
function torch.setnumthreads(n) end

--- What `t[i]` is: a number where `t` has one dimension, else a tensor. The type of a tensor does not say how many
--- dimensions it has, so this is both.
---@class torch.Element: number, integer, torch.Tensor
---@operator add(number|torch.Tensor): torch.Element
---@operator sub(number|torch.Tensor): torch.Element
---@operator mul(number|torch.Tensor): torch.Element
---@operator div(number|torch.Tensor): torch.Element
---@operator mod(number|torch.Tensor): torch.Element
---@operator pow(number|torch.Tensor): torch.Element
---@operator unm: torch.Element

--- A view of a storage: `t[i]`, `t[{i, {from, to}, {}}]`, `t[mask]` read and write; `+ - * / ^ %` make new tensors.
---@class torch.Tensor
---@field [integer] torch.Element an element, or the tensor of the other dimensions
---@field [torch.Tensor] torch.Element the elements where a ByteTensor is not 0
---@field [torch.LongStorage] torch.Element an element
---@field [(integer|integer[]|table)[]] torch.Element a place or a range for each dimension
---@operator add(number|torch.Tensor): torch.Tensor
---@operator sub(number|torch.Tensor): torch.Tensor
---@operator mul(number|torch.Tensor): torch.Tensor
---@operator div(number|torch.Tensor): torch.Tensor
---@operator mod(number|torch.Tensor): torch.Tensor
---@operator pow(number|torch.Tensor): torch.Tensor
---@operator unm: torch.Tensor
---@operator len: torch.LongStorage
local Tensor = {}

-- ## What it is

--- The class's name, or the tensor as one of another type (`'torch.FloatTensor'`; itself if it is one).
---@param type? string
---@return string|torch.Tensor
function Tensor:type(type) end

--- The sizes, or the size of one dimension; also `#t`.
---@param dim? integer
---@return torch.LongStorage|integer
function Tensor:size(dim) end

--- The step in the storage from an element to the next one along a dimension, in elements.
---@param dim? integer
---@return torch.LongStorage|integer
function Tensor:stride(dim) end

--- The number of dimensions; 0 without elements.
---@return integer
function Tensor:dim() end

--- As `dim`.
---@return integer
function Tensor:nDimension() end

--- The number of elements.
---@return integer
function Tensor:nElement() end

--- As `nElement`.
---@return integer
function Tensor:numel() end

--- Bytes an element takes.
---@return integer
function Tensor:elementSize() end

--- Whether the elements lie one after the other.
---@return boolean
function Tensor:isContiguous() end

--- Moves its whole storage to memory that processes share; views follow, and pointers from before (`data`) are void. It
--- cannot be resized then. `[unsupported]` where the storage belongs to another one, or to another library; `[state]`
--- where another storage is a view of it, or another thread is seen to use it: no other may write it meanwhile.
---@return self
function Tensor:share() end

--- Whether it lies in memory that processes share.
---@return boolean
function Tensor:isShared() end

--- Whether both have the same sizes.
---@param other any
---@return boolean
function Tensor:isSameSizeAs(other) end

--- Whether it has these sizes (numbers or a LongStorage).
---@param ... any
---@return boolean
function Tensor:isSize(...) end

--- Whether both look at the same elements in the same way.
---@param other any
---@return boolean
function Tensor:isSetTo(other) end

--- Whether sizes and elements are the same.
---@param other any
---@return boolean
function Tensor:equal(other) end

--- The storage that it views.
---@return torch.Storage
function Tensor:storage() end

--- The position of its first element in the storage, from 1.
---@return integer
function Tensor:storageOffset() end

--- LuaJIT: an FFI pointer to the first element, good while the tensor lives and its storage is not resized; or
--- its address as an `intptr_t`.
---@param asnumber? boolean
---@return ffi.cdata*?
function Tensor:data(asnumber) end

-- ## Views: no element is copied

--- As the constructor of its own type.
---@param ... any
---@return torch.Tensor
function Tensor:new(...) end

--- Makes it view a tensor, or `storage, [offset, [sizes, [strides]]]`.
---@param ... any
---@return torch.Tensor
function Tensor:set(...) end

--- `count` positions of a dimension.
---@param dim integer
---@param from number
---@param count integer
---@return torch.Tensor
function Tensor:narrow(dim, from, count) end

--- One position of a dimension, which goes away.
---@param dim integer
---@param at integer
---@return torch.Tensor|number
function Tensor:select(dim, at) end

--- A range for each leading dimension: `from1, to1, [from2, to2, …]`, both included.
---@param ... any
---@return torch.Tensor
function Tensor:sub(...) end

--- Two dimensions swapped.
---@param a any
---@param b any
---@return torch.Tensor
function Tensor:transpose(a, b) end

--- A matrix with rows and columns swapped.
---@return torch.Tensor
function Tensor:t() end

--- Dimensions in another order.
---@param ... any
---@return torch.Tensor
function Tensor:permute(...) end

--- Other sizes, one of which may be -1; for contiguous tensors.
---@param ... any
---@return torch.Tensor
function Tensor:view(...) end

--- The sizes of another tensor.
---@param other any
---@return torch.Tensor
function Tensor:viewAs(other) end

--- Dimensions of size 1 repeated.
---@param ... any
---@return torch.Tensor
function Tensor:expand(...) end

--- Dimensions of size 1 repeated to the sizes of another tensor.
---@param other any
---@return torch.Tensor
function Tensor:expandAs(other) end

--- Without dimensions of size 1, or without this one. A number if one element is left; with `dim` only if the tensor
--- has no other dimension. `torch.squeeze(res, src, [dim])` makes `res` the view.
---@param dim? integer
---@return torch.Tensor|number
function Tensor:squeeze(dim) end

--- With a dimension of size 1 before `dim`.
---@param dim integer
---@return torch.Tensor
function Tensor:unsqueeze(dim) end

--- Windows along a dimension, as one more dimension at the end.
---@param dim integer
---@param size integer
---@param step number
---@return torch.Tensor
function Tensor:unfold(dim, size, step) end

--- Parts of `size` positions each; `torch.split(result, t, size, dim)` empties a table and fills it.
---@param size integer
---@param dim? integer
---@return torch.Tensor[]
function Tensor:split(size, dim) end

--- About `count` equal parts; `torch.chunk(result, t, count, dim)` empties a table and fills it.
---@param count integer
---@param dim? integer
---@return torch.Tensor[]
function Tensor:chunk(count, dim) end

-- ## Copies and conversions

--- A copy in a storage of its own.
---@return torch.Tensor
function Tensor:clone() end

--- Itself if its elements lie one after the other, else a copy.
---@return torch.Tensor
function Tensor:contiguous() end

--- Copies as many elements, of any type and sizes, into it.
---@param other any
---@return torch.Tensor
function Tensor:copy(other) end

--- A copy in other sizes; `torch.reshape(res, src, sizes…)` resizes `res` and copies into it.
---@param ... any
---@return torch.Tensor
function Tensor:reshape(...) end

--- A copy, tiled as often as said for each dimension; `torch.repeatTensor(res, src, counts…)` resizes `res` and
--- copies into it.
---@param ... any
---@return torch.Tensor
function Tensor:repeatTensor(...) end

--- Gives it these sizes (numbers or a LongStorage); the storage grows when needed.
---@param ... any
---@return torch.Tensor
function Tensor:resize(...) end

--- Gives it the sizes of another tensor.
---@param other any
---@return torch.Tensor
function Tensor:resizeAs(other) end

--- As a tensor of the other's type.
---@param other any
---@return torch.Tensor
function Tensor:typeAs(other) end

--- As a ByteTensor.
---@return torch.Tensor
function Tensor:byte() end

--- As a CharTensor.
---@return torch.Tensor
function Tensor:char() end

--- As a ShortTensor.
---@return torch.Tensor
function Tensor:short() end

--- As an IntTensor.
---@return torch.Tensor
function Tensor:int() end

--- As a LongTensor.
---@return torch.Tensor
function Tensor:long() end

--- As a FloatTensor.
---@return torch.Tensor
function Tensor:float() end

--- As a DoubleTensor.
---@return torch.Tensor
function Tensor:double() end

--- As a HalfTensor.
---@return torch.Tensor
function Tensor:half() end

--- As a BFloat16Tensor.
---@return torch.Tensor
function Tensor:bfloat16() end

--- Nested tables of numbers.
---@return table
function Tensor:totable() end

--- Every element becomes `f(element)`, unless that is nil.
---@param f function
---@return torch.Tensor
function Tensor:apply(f) end

--- Every element becomes `f(element, other's element)`, unless that is nil.
---@param other any
---@param f function
---@return torch.Tensor
function Tensor:map(other, f) end

--- Every element becomes `f(element, a's element, b's element)`, unless that is nil.
---@param a any
---@param b any
---@param f function
---@return torch.Tensor
function Tensor:map2(a, b, f) end

-- ## Filling

--- Sets every element.
---@param value number
---@return torch.Tensor
function Tensor:fill(value) end

--- Sets every element to 0.
---@return torch.Tensor
function Tensor:zero() end

--- Resizes it and fills it with 0.
---@param ... any
---@return torch.Tensor
function Tensor:zeros(...) end

--- Resizes it and fills it with 1.
---@param ... any
---@return torch.Tensor
function Tensor:ones(...) end

--- `from`, `from + step`, … up to and with `to`.
---@param from number
---@param to number
---@param step? number
---@return torch.Tensor
function Tensor:range(from, to, step) end

--- `n` (100) numbers at equal distances.
---@param from number
---@param to number
---@param n? integer
---@return torch.Tensor
function Tensor:linspace(from, to, n) end

--- Powers of ten, with exponents at equal distances.
---@param from number
---@param to number
---@param n? integer
---@return torch.Tensor
function Tensor:logspace(from, to, n) end

--- A matrix with ones on its diagonal.
---@param rows integer
---@param columns? integer
---@return torch.Tensor
function Tensor:eye(rows, columns) end

--- Tensors one after the other along a dimension: `a, b, [dim]` or `{a, b, …}, [dim]`.
---@param ... any
---@return torch.Tensor
function Tensor:cat(...) end

--- Numbers of [0, 1).
---@param ... any
---@return torch.Tensor
function Tensor:rand(...) end

--- Normal numbers, mean 0 and deviation 1.
---@param ... any
---@return torch.Tensor
function Tensor:randn(...) end

--- 1 to n in a random order.
---@param n integer
---@return torch.Tensor
function Tensor:randperm(n) end

--- Integers of a range, or of all that the type counts.
---@param from? number
---@param to? number
---@return torch.Tensor
function Tensor:random(from, to) end

--- Numbers of [from, to).
---@param from? number
---@param to? number
---@return torch.Tensor
function Tensor:uniform(from, to) end

--- Normal numbers.
---@param mean? number
---@param deviation? number
---@return torch.Tensor
function Tensor:normal(mean, deviation) end

--- e to the power of normal numbers.
---@param mean? number
---@param deviation? number
---@return torch.Tensor
function Tensor:logNormal(mean, deviation) end

--- Waiting times.
---@param rate? number
---@return torch.Tensor
function Tensor:exponential(rate) end

--- Cauchy's distribution.
---@param median? number
---@param width? number
---@return torch.Tensor
function Tensor:cauchy(median, width) end

--- 1, 2, 3, … with falling probability.
---@param p? number
---@return torch.Tensor
function Tensor:geometric(p) end

--- 1 with probability p (a number, or a tensor of them), else 0.
---@param p? number
---@return torch.Tensor
function Tensor:bernoulli(p) end

-- ## Arithmetic, in place: `t:f([src,] …)` puts the result of src (itself) into t

--- `number`, `tensor`, or `number, tensor`: adds number · tensor.
---@param ... any
---@return torch.Tensor
function Tensor:add(...) end

--- As `add`, subtracting.
---@param ... any
---@return torch.Tensor
function Tensor:csub(...) end

--- Multiplies by a number.
---@param value number
---@return torch.Tensor
function Tensor:mul(value) end

--- Divides by a number.
---@param value number
---@return torch.Tensor
function Tensor:div(value) end

--- The remainder with the sign of the element.
---@param value number
---@return torch.Tensor
function Tensor:fmod(value) end

--- As `fmod`.
---@param value number
---@return torch.Tensor
function Tensor:mod(value) end

--- The remainder with the sign of the number, as Lua's `%`.
---@param value number
---@return torch.Tensor
function Tensor:remainder(value) end

--- To the power of a number.
---@param value number
---@return torch.Tensor
function Tensor:pow(value) end

--- Multiplies element by element.
---@param other any
---@return torch.Tensor
function Tensor:cmul(other) end

--- Divides element by element.
---@param other any
---@return torch.Tensor
function Tensor:cdiv(other) end

--- To the power of each element of another.
---@param other any
---@return torch.Tensor
function Tensor:cpow(other) end

--- `fmod` element by element.
---@param other any
---@return torch.Tensor
function Tensor:cfmod(other) end

--- As `cfmod`.
---@param other any
---@return torch.Tensor
function Tensor:cmod(other) end

--- `remainder` element by element.
---@param other any
---@return torch.Tensor
function Tensor:cremainder(other) end

--- The larger of each element and a number, or another's element.
---@param other any
---@return torch.Tensor
function Tensor:cmax(other) end

--- The smaller of each element and a number, or another's element.
---@param other any
---@return torch.Tensor
function Tensor:cmin(other) end

--- `[number,] a, b`: adds number · a · b.
---@param ... any
---@return torch.Tensor
function Tensor:addcmul(...) end

--- `[number,] a, b`: adds number · a / b.
---@param ... any
---@return torch.Tensor
function Tensor:addcdiv(...) end

--- Puts what is below or above at the bounds.
---@param low number
---@param high number
---@return torch.Tensor
function Tensor:clamp(low, high) end

--- Without sign.
---@return torch.Tensor
function Tensor:abs() end

--- With the other sign.
---@return torch.Tensor
function Tensor:neg() end

--- -1, 0 or 1.
---@return torch.Tensor
function Tensor:sign() end

--- 1 / x.
---@return torch.Tensor
function Tensor:cinv() end

--- Square root.
---@return torch.Tensor
function Tensor:sqrt() end

--- 1 / square root.
---@return torch.Tensor
function Tensor:rsqrt() end

--- e to the x.
---@return torch.Tensor
function Tensor:exp() end

--- e to the x, less 1.
---@return torch.Tensor
function Tensor:expm1() end

--- Natural logarithm.
---@return torch.Tensor
function Tensor:log() end

--- Natural logarithm of 1 + x.
---@return torch.Tensor
function Tensor:log1p() end

--- Sine.
---@return torch.Tensor
function Tensor:sin() end

--- Cosine.
---@return torch.Tensor
function Tensor:cos() end

--- Tangent.
---@return torch.Tensor
function Tensor:tan() end

--- Inverse sine.
---@return torch.Tensor
function Tensor:asin() end

--- Inverse cosine.
---@return torch.Tensor
function Tensor:acos() end

--- Inverse tangent.
---@return torch.Tensor
function Tensor:atan() end

--- Hyperbolic sine.
---@return torch.Tensor
function Tensor:sinh() end

--- Hyperbolic cosine.
---@return torch.Tensor
function Tensor:cosh() end

--- Hyperbolic tangent.
---@return torch.Tensor
function Tensor:tanh() end

--- 1 / (1 + exp(-x)).
---@return torch.Tensor
function Tensor:sigmoid() end

--- Down to an integer.
---@return torch.Tensor
function Tensor:floor() end

--- Up to an integer.
---@return torch.Tensor
function Tensor:ceil() end

--- To the nearest integer.
---@return torch.Tensor
function Tensor:round() end

--- Towards zero to an integer.
---@return torch.Tensor
function Tensor:trunc() end

--- What `trunc` cuts off.
---@return torch.Tensor
function Tensor:frac() end

-- ## Comparisons: a ByteTensor of 0 and 1

--- `==`, with a number or a tensor.
---@param other any
---@return torch.Tensor
function Tensor:eq(other) end

--- `~=`, with a number or a tensor.
---@param other any
---@return torch.Tensor
function Tensor:ne(other) end

--- `<`, with a number or a tensor.
---@param other any
---@return torch.Tensor
function Tensor:lt(other) end

--- `<=`, with a number or a tensor.
---@param other any
---@return torch.Tensor
function Tensor:le(other) end

--- `>`, with a number or a tensor.
---@param other any
---@return torch.Tensor
function Tensor:gt(other) end

--- `>=`, with a number or a tensor.
---@param other any
---@return torch.Tensor
function Tensor:ge(other) end

--- Whether no element of a ByteTensor is 0.
---@return boolean
function Tensor:all() end

--- Whether an element of a ByteTensor is not 0.
---@return boolean
function Tensor:any() end

-- ## Reductions: to a number, or along a dimension, which stays with size 1

--- The sum.
---@param dim? integer
---@return number|torch.Tensor
function Tensor:sum(dim) end

--- The product.
---@param dim? integer
---@return number|torch.Tensor
function Tensor:prod(dim) end

--- The mean.
---@param dim? integer
---@return number|torch.Tensor
function Tensor:mean(dim) end

--- The largest; along a dimension also where they are.
---@param dim? integer
---@return number|torch.Tensor, torch.Tensor?
function Tensor:max(dim) end

--- The smallest; along a dimension also where they are.
---@param dim? integer
---@return number|torch.Tensor, torch.Tensor?
function Tensor:min(dim) end

--- `[dim,] [biased]`: the variance, divided by n - 1, or by n when biased.
---@param ... any
---@return number|torch.Tensor
function Tensor:var(...) end

--- `[dim,] [biased]`: the standard deviation.
---@param ... any
---@return number|torch.Tensor
function Tensor:std(...) end

--- The p-norm (2).
---@param p? number
---@param dim? integer
---@return number|torch.Tensor
function Tensor:norm(p, dim) end

--- The p-norm of the difference.
---@param other any
---@param p? number
---@return number
function Tensor:dist(other, p) end

--- Running sums.
---@param dim? integer
---@return torch.Tensor
function Tensor:cumsum(dim) end

--- Running products.
---@param dim? integer
---@return torch.Tensor
function Tensor:cumprod(dim) end

--- The elements sorted along a dimension (the last), and a LongTensor of where they were.
---@param dim? integer
---@param descending? boolean
---@return torch.Tensor, torch.Tensor
function Tensor:sort(dim, descending) end

--- The lower of the middle ones along a dimension (the last), and a LongTensor of where they were.
---@param dim? integer
---@return torch.Tensor, torch.Tensor
function Tensor:median(dim) end

--- The most frequent elements along a dimension (the last), of several the smallest, and a LongTensor of where they
--- stand last.
---@param dim? integer
---@return torch.Tensor, torch.Tensor
function Tensor:mode(dim) end

--- The k-th smallest.
---@param k integer
---@param dim? integer
---@return torch.Tensor, torch.Tensor
function Tensor:kthvalue(k, dim) end

--- The k smallest, or largest.
---@param k? integer
---@param dim? integer
---@param largest? boolean
---@return torch.Tensor, torch.Tensor
function Tensor:topk(k, dim, largest) end

--- The sum of a matrix's diagonal.
---@return number
function Tensor:trace() end

--- A diagonal of a matrix, or a matrix with this diagonal.
---@param k? integer
---@return torch.Tensor
function Tensor:diag(k) end

--- A copy with zeros above a diagonal.
---@param k? integer
---@return torch.Tensor
function Tensor:tril(k) end

--- A copy with zeros below a diagonal.
---@param k? integer
---@return torch.Tensor
function Tensor:triu(k) end

-- ## Products

--- The sum of the products of the elements.
---@param other any
---@return number
function Tensor:dot(other) end

--- Becomes matrix · vector.
---@param matrix torch.Tensor
---@param vector torch.Tensor
---@return torch.Tensor
function Tensor:mv(matrix, vector) end

--- Becomes matrix · matrix.
---@param a any
---@param b any
---@return torch.Tensor
function Tensor:mm(a, b) end

--- Becomes the products of two batches of matrices.
---@param a any
---@param b any
---@return torch.Tensor
function Tensor:bmm(a, b) end

--- Becomes the outer product of two vectors.
---@param x any
---@param y torch.Tensor
---@return torch.Tensor
function Tensor:ger(x, y) end

--- `[beta,] [start,] [alpha,] matrix, vector`: beta · start (itself) + alpha · matrix · vector.
---@param ... any
---@return torch.Tensor
function Tensor:addmv(...) end

--- `[beta,] [start,] [alpha,] a, b`: beta · start (itself) + alpha · a · b.
---@param ... any
---@return torch.Tensor
function Tensor:addmm(...) end

--- `[beta,] [start,] [alpha,] x, y`: beta · start (itself) + alpha · x · y'.
---@param ... any
---@return torch.Tensor
function Tensor:addr(...) end

--- `[beta,] [start,] [alpha,] a, b`, batches of matrices.
---@param ... any
---@return torch.Tensor
function Tensor:baddbmm(...) end

-- ## Picking

--- The slices that a LongTensor names.
---@param dim integer
---@param indices torch.Tensor
---@return torch.Tensor
function Tensor:index(dim, indices) end

--- Copies slices to where a LongTensor says.
---@param dim integer
---@param indices torch.Tensor
---@param src torch.Tensor
---@return torch.Tensor
function Tensor:indexCopy(dim, indices, src) end

--- Sets the slices that a LongTensor names.
---@param dim integer
---@param indices torch.Tensor
---@param value number
---@return torch.Tensor
function Tensor:indexFill(dim, indices, value) end

--- Elements picked along a dimension.
---@param dim integer
---@param indices torch.Tensor
---@return torch.Tensor
function Tensor:gather(dim, indices) end

--- Puts elements (or a number) where a LongTensor says.
---@param dim integer
---@param indices torch.Tensor
---@param src torch.Tensor
---@return torch.Tensor
function Tensor:scatter(dim, indices, src) end

--- The elements where a ByteTensor is not 0.
---@param mask torch.Tensor
---@return torch.Tensor
function Tensor:maskedSelect(mask) end

--- Sets the elements where a ByteTensor is not 0.
---@param mask torch.Tensor
---@param value number
---@return torch.Tensor
function Tensor:maskedFill(mask, value) end

--- Sets the elements where a ByteTensor is not 0 to those of `src`.
---@param mask torch.Tensor
---@param src torch.Tensor
---@return torch.Tensor
function Tensor:maskedCopy(mask, src) end

--- A LongTensor with a row of positions for each element that is not 0; `t.nonzero(res, t)` fills one.
---@return torch.Tensor
function Tensor:nonzero() end

--- Elements in a row, shared by the tensors that view them and by threads: `s[i]`, `#s`. `torch.FloatStorage` and its
--- kin make one from nothing, a size, a table of numbers, another storage (`storage, [offset, [size]]`: a view) or
--- a file (`name, false, [size]`: what is in it).
---@class torch.Storage
---@field [integer] number
---@operator len: integer
local Storage = {}

---@class torch.LongStorage: torch.Storage

--- The number of elements; also `#s`.
---@return integer
function Storage:size() end

--- Bytes an element takes.
---@return integer
function Storage:elementSize() end

--- Makes it hold n elements.
---@param n integer
---@return torch.Storage
function Storage:resize(n) end

--- Sets every element.
---@param value number
---@return torch.Storage
function Storage:fill(value) end

--- Copies a storage of any type, as long.
---@param other any
---@return torch.Storage
function Storage:copy(other) end

--- A copy.
---@return torch.Storage
function Storage:clone() end

--- As the constructor of its own type.
---@param ... any
---@return torch.Storage
function Storage:new(...) end

--- The class's name, or a copy of another type.
---@param type? string
---@return string|torch.Storage
function Storage:type(type) end

--- The elements.
---@return table
function Storage:totable() end

--- The bytes of a Byte or Char storage; with a text, makes it hold that.
---@param text? string
---@return string|torch.Storage
function Storage:string(text) end

--- LuaJIT: an FFI pointer to the first element, or its address as an `intptr_t`.
---@param asnumber? boolean
---@return ffi.cdata*
function Storage:data(asnumber) end

--- As a ByteStorage.
---@return torch.Storage
function Storage:byte() end

--- As a CharStorage.
---@return torch.Storage
function Storage:char() end

--- As a ShortStorage.
---@return torch.Storage
function Storage:short() end

--- As an IntStorage.
---@return torch.Storage
function Storage:int() end

--- As a LongStorage.
---@return torch.Storage
function Storage:long() end

--- As a FloatStorage.
---@return torch.Storage
function Storage:float() end

--- As a DoubleStorage.
---@return torch.Storage
function Storage:double() end

--- As a HalfStorage.
---@return torch.Storage
function Storage:half() end

--- As a BFloat16Storage.
---@return torch.Storage
function Storage:bfloat16() end

return torch
