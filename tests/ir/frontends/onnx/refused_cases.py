"""What ONNX files have that is not taken: nodes (`small_file`), and behind an arrow what is told of one of them."""

from __future__ import annotations

_WORDS = {
    "quantise": "(what helps: QuantizeLinear and DequantizeLinear between them)",
    "between": "before that is quantised (what helps: QuantizeLinear between them)",
    "attention": "(what helps: queries times keys, and their softmax times values, as docs/onnx.md has them)",
    "heads": "h := r wn @ e8 p = MatMul(h, wn) hp := p h4 = Reshape(hp, n_1_5_2_4) "
    "q = Transpose<perm = [0, 2, 1, 3]>(h4) k = Transpose<perm = [0, 2, 3, 1]>(h4)",
    "scores": "{heads} s = MatMul(q, k)",
}


def cases() -> list[tuple[str, str]]:
    """Nodes, and what is told; as far as three dots if it ends in them."""
    found = []
    for block in _CASES.strip().split("\n\n"):
        text = " ".join(block.split("\n"))
        for _ in range(2):
            for word, words in _WORDS.items():
                text = text.replace(f"{{{word}}}", words)
        nodes, told = text.split(" -> ")
        found.append((nodes, told))
    return found


_CASES = r"""
y = QuantizeLinear(x, scale, zeros)
-> QuantizeLinear y: what is computed has 2 zero points (what helps: one zero point for each tensor)

y = QuantizeLinear(real, scale, wide)
-> QuantizeLinear y: it quantises constants to 16 bits (what helps: weights of int8)

a := x l = Relu(a) lq = QuantizeLinear(l, odd, zero) ld = DequantizeLinear(lq, odd, zero) s = Sub(a, ld)
sq = QuantizeLinear(s, slight, zero) y = DequantizeLinear(sq, slight, zero)
-> QuantizeLinear sq: Sub s gives it steps 2,718,000 times finer than it adds, of which it is off by up to ...

a := x y = QuantizeLinear(x, coarse, zero)
-> QuantizeLinear y: input x is quantised twice, in different ways

a = QuantizeLinear(x, scale, zero) y = QuantizeLinear(a, scale, zero)
-> QuantizeLinear y: it quantises integers

y = DequantizeLinear(x, scale, zero)
-> DequantizeLinear y: it reads real numbers

a = QuantizeLinear(x, scale, zero) y = DequantizeLinear(a, ones)
-> DequantizeLinear y: what is computed has 3 scales (what helps: one scale for each tensor (per channel is for weights))

y = DequantizeLinear(real, scale)
-> DequantizeLinear y: it dequantises float32

y = DequantizeLinear(i, not_a_number)
-> DequantizeLinear y: a scale of it is nan

y = DequantizeLinear<axis = 0>(i3, endless)
-> DequantizeLinear y: a scale of it is inf

y = DequantizeLinear(short, scale)
-> DequantizeLinear y: it dequantises int16 constants (what helps: int8 weights and int32 biases)

a := x w = DequantizeLinear<axis = 0>(i, scales, zeros) y = Conv(a, w)
-> Conv y: its weights w have a zero point (what helps: weights quantised symmetrically (WeightSymmetric=True))

a := x w @ int32 y = Conv(a, w)
-> Conv y: its weights w are int32 (what helps: weights quantised to int8)

a := x w @ k3 y = Conv<pads = [-1, 0, 0, 0]>(a, w)
-> Conv y: its pads [-1, 0, 0, 0] take something off (what helps: a Slice)

a := x w @ k3 y = Conv<auto_pad = "SOME">(a, w)
-> Conv y: its auto_pad is SOME

a := x w @ i y = Conv(a, w, a)
-> Conv y: its bias a is computed (what helps: a constant)

a := x w @ i y = Conv(a, w, ones)
-> Conv y: its bias [3] is not one number for each of 2 outputs

a := x w = DequantizeLinear<axis = 1>(i, by_channel) y = Conv(a, w)
-> Conv y: the scales of its weights differ along axis 1, not along the outputs, 0

a := x w @ cube y = Conv(a, w)
-> Conv y: its weights have 3 dimensions, its input 4

a := x w @ i2 y = Conv(a, w)
-> Conv y: its weights are for 2 channels, its input has 3

a := flat w @ m y = MatMul(a, w)
-> MatMul y: its matrix has 4 rows, and its input 3 columns

c := x w1 @ i a0 = Conv(c, w1) a := a0 w @ m y = MatMul(a, w)
-> MatMul y: it multiplies along other axes than channels, or all of an image (what helps: a Transpose less)

a := flat w @ rows y = Gemm<alpha = 2.0>(a, w)
-> Gemm y: its alpha or beta is not 1

a := flat w @ rows y = Gemm<beta = 2.0>(a, w, many)
-> Gemm y: its alpha or beta is not 1

a := flat w @ cube y = Gemm(a, w)
-> Gemm y: its B has 3 dimensions

a := x y = Resize<nearest_mode = "some">(a, , double)
-> Resize y: its nearest_mode is some (what helps: nearest neighbours, enlarged by integers)

a := two y = Resize(x, , double)
-> Resize y: it enlarges what is not quantised yet {quantise}

a := x y = Resize<keep_aspect_ratio_policy = "not_larger">(a, , , n_1_3_8_8)
-> Resize y: it keeps the aspect ratio of images (what helps: sizes as they are)

a := x w @ cube y = ConvTranspose(a, w)
-> ConvTranspose y: its weights have 3 dimensions, its input 4

a := x w @ i2 y = ConvTranspose(a, w)
-> ConvTranspose y: its weights are for 2 channels, its input has 3

a := x w @ i3 y = ConvTranspose<dilations = [0, 1]>(a, w)
-> ConvTranspose y: its dilations are [0, 1] (what helps: 1 or more, for each axis of its kernel)

a := x w @ i3 y = ConvTranspose<pads = [0, 0, -1, 0]>(a, w)
-> ConvTranspose y: its pads are [0, 0, -1, 0] (what helps: pads of 0 or more)

a := x w @ i3 y = ConvTranspose<auto_pad = "SOME">(a, w)
-> ConvTranspose y: its auto_pad is SOME

a := x y = Resize<coordinate_transformation_mode = "pytorch_half_pixel">(a, , , n_1_3_1_4)
-> Resize y: its axis 2 has 4 positions and gets 1, which are not those of a whole factor (what helps: nearest neighbours,
enlarged by integers)

a := x w @ i3 c = Conv(a, w) b := c j = Concat<axis = 1>(a, b) y = Transpose<perm = [0, 1, 3, 2]>(j)
-> Transpose y: it reads what Concat j gives {between}

w = DequantizeLinear<axis = 0>(i, scales) y = Reshape(w, n_3_2)
-> Reshape y: its input is a constant that is quantised

a := x y = Reshape<allowzero = 1>(a, n_0_3_m1)
-> Reshape y: [1, 3, 4, 4] has other numbers than [0, 3, 48]

{heads} y = MatMul(q, conv) w @ i conv = Conv(a, w) a := x
-> MatMul y: it multiplies two computed tensors {attention}

a := r2 w @ e8 c = MatMul(a, w) b := c t = Transpose<perm = [0, 2, 1]>(b) y = MatMul(b, t)
-> MatMul y: it multiplies computed tensors of 2 images (what helps: a batch of 1 (--size))

{heads} y = MatMul(q, q)
-> MatMul y: it multiplies two computed tensors, and keys are not (heads, channels, positions) {attention}

{heads} y = MatMul(k, k)
-> MatMul y: it multiplies two computed tensors, and queries are not (heads, positions, channels) {attention}

{heads} g4 = Reshape(hp, n_1_5_4_2) g = Transpose<perm = [0, 2, 3, 1]>(g4) y = MatMul(q, g)
-> MatMul y: it multiplies [1, 2, 5, 4] by [1, 4, 2, 5] {attention}

{scores} y = MatMul(s, q)
-> MatMul y: it multiplies two computed tensors (what helps: a Softmax in between)

{scores} t = Softmax(s) g4 = Reshape(hp, n_1_5_4_2) g = Transpose<perm = [0, 2, 1, 3]>(g4) y = MatMul(t, g)
-> MatMul y: it multiplies [1, 2, 5, 5] by [1, 4, 5, 2] {attention}

{scores} y = Softmax<axis = 2>(s)
-> Softmax y: its axis is 2 (what helps: the last one, of keys)

{scores} t = Softmax(s) y = Mul(t, scale)
-> Mul y: it multiplies what a softmax gives

{scores} y = Mul(s, many)
-> Mul y: its constant has 5 numbers, in the midst of attention (what helps: one number for all)

{scores} y = Div(s, none)
-> Div y: it multiplies scores of attention by what is not above 0

{scores} t = Softmax(s) o = MatMul(t, q) y := o
-> QuantizeLinear y_q: heads of MatMul o are apart (what helps: a Transpose and a Reshape to whole channels)

h := r wn @ e8 p = MatMul(h, wn) hp := p y = LayerNormalization(hp, hp)
-> LayerNormalization y: its input hp is computed, and must be a constant

h := r wn @ e8 p = MatMul(h, wn) hp := p y = LayerNormalization(hp, many)
-> LayerNormalization y: its input many has 5 numbers for 8 channels

h := r wn @ e8 p = MatMul(h, wn) hp := p y = LayerNormalization(hp, eight)
-> LayerNormalization y: its input eight is not finite

{heads} y = Gather<axis = 2>(h4, n_9)
-> Gather y: its indices are [9] (what helps: one number in [-2, 2))

{heads} y = Gather<axis = 1>(h4, n_1)
-> Gather y: it takes a part along axis 1 of [1, 5, 2, 4], which is not that of the channels

a := x y = SpaceToDepth<blocksize = 0>(a)
-> SpaceToDepth y: its blocksize is 0 (what helps: 1 or more)

b := x12 y = DepthToSpace<blocksize = 2, mode = "SOME">(b)
-> DepthToSpace y: its mode is SOME (what helps: DCR or CRD)

a := x y = SpaceToDepth<blocksize = 3>(a)
-> SpaceToDepth y: its blocks of 3 x 3 do not divide 4 x 4 positions

a := x y = DepthToSpace<blocksize = 2>(a)
-> DepthToSpace y: its blocks of 2 x 2 do not divide 3 channels

a := x y = Gather<axis = 1>(a, n_3)
-> Gather y: its indices are [3] (what helps: a list of numbers in [-3, 3))

a := x y = Gather<axis = 2>(a, n_0)
-> Gather y: it takes some of axis 2 (what helps: axis 1, that of the channels)

a := x w @ i b = Conv(a, w) y = Slice(b, n_0, n_1, n_1)
-> Slice y: it takes a part of what is not quantised yet {quantise}

a := x w @ i b = Conv(a, w) y, z = Split<axis = 1>(b)
-> Split y: it takes parts of what is not quantised yet {quantise}

a := x y, z = Split<axis = 1>(a, n_1_1)
-> Split y: its parts are [1, 1] of 3, for 2 outputs

a := x y = Slice(a, n_2, n_2, n_1)
-> Slice y: it takes nothing: 2 to 2 of 3

{heads} y = Reshape(h4, n_1_5_2_2)
-> Reshape y: [1, 5, 2, 4] has other numbers than [1, 5, 2, 2]

{heads} y = Reshape(h4, n_1_5_2_8)
-> Reshape y: [1, 5, 2, 4] has other numbers than [1, 5, 2, 8]

a := long_image y = Slice(a, n_1500, n_3001, n_2)
-> Slice y: it takes 1501 x 1 of 3001 x 1 positions, for which a copy has a kernel of [1501, 1] (what helps: kernels of up to 1024
positions)

a := x y = Pad(a, n_0_0_1_1_0_0_1_1, a)
-> Pad y: what it pads with is computed (what helps: a constant)

a := x w @ i b = Conv(a, w) y = Pad(b, n_0_0_1_1_0_0_1_1)
-> Pad y: it pads what is not quantised yet {quantise}

a := x y = Pad<mode = "edge">(a, n_0_0_1_1_0_0_1_1)
-> Pad y: its mode is edge (what helps: constant)

a := x y = Pad(a, n_0_0_0_0)
-> Pad y: it has 4 pads for 4 dimensions

a := x y = Pad(a, n_0_0_m1_0_0_0_0_0)
-> Pad y: its pads [0, 0, -1, 0, 0, 0, 0, 0] take something off (what helps: a Slice)

a := x y = Pad(a, n_0_1_0_0_0_0_0_0)
-> Pad y: its pads [0, 1, 0, 0, 0, 0, 0, 0] add to batch or channels (what helps: height and width alone)

a := x y = Add(a, five)
-> Add y: its constant has 5 dimensions, and what it is for 4

a := x y = Mul(a, image)
-> Mul y: its constant [1, 3, 4, 1] differs along another axis than channels

a := flat y = Mul(a, pair)
-> Mul y: its constant has 2 numbers for 3 channels

a := x y = Mul(a, not_a_number)
-> Mul y: one of its constants is not finite

a := x y = Div(a, none)
-> Div y: it divides by 0

y = Constant<some = 2>() a := x b = Reshape(a, y)
-> Constant y: it has some

a := x y = Cast<to = 10>(scale)
-> Cast y: it casts to type 10

a := x y = Div(n_6_6, n_2_0)
-> Div y: it divides by 0

a := x y = ConstantOfShape(n_1048577)
-> ConstantOfShape y: it fills [1048577], more than 1,048,576 numbers

a := x y = Add(n_1_2, n_1_2_3)
-> Add y: its constants do not fit: operands could not be broadcast together with shapes (2,) (3,)...

a := x y = Add(column, line1)
-> Add y: it gives 1,050,625 constants, more than 1,048,576

a := x w @ i conv = Conv(a, w) y = Sigmoid(conv)
-> Sigmoid y: it reads what Conv conv gives before that is quantised (what helps: QuantizeLinear and DequantizeLinear between
them, as static quantisers write them)

a := x w @ i3 c = Conv(a, w) b := c d = Add(a, b) y = Sigmoid(d)
-> Sigmoid y: it reads what Add d gives {between}

a := x w @ i3 c = Conv(a, w) b := c d = Concat<axis = 1>(a, b) y = Sigmoid(d)
-> Sigmoid y: it reads what Concat d gives {between}

a := x d = Pad(a, n_0_0_1_1_0_0_1_1, fine) y = Sigmoid(d)
-> Sigmoid y: it reads what Pad d gives {between}

h := r wn @ e8 p = MatMul(h, wn) hp := p d = LayerNormalization(hp, eight1) y = Sigmoid(d)
-> Sigmoid y: it reads what LayerNormalization d gives {between}

{scores} t = Softmax(s) o = MatMul(t, q) y = Sigmoid(o)
-> Sigmoid y: it reads what MatMul o gives {between}

a := x w @ i b = Conv(a, w) y = QuantizeLinear(b, tiny, zero8)
-> QuantizeLinear y:...

a := x w @ i b = Conv(a, w, huge) y := b
-> QuantizeLinear y_q: its bias, with the zero point of its input, is...

b = Relu(x) y = QuantizeLinear(b, none, zero8)
-> input x: its scale is 0.0

a := x y = Conv(a)
-> Conv y: it has no input 1

a := x y = Reshape(a, a)
-> Reshape y: its input a is computed, and must be a constant

a := x mean = GlobalAveragePool(a) q = QuantizeLinear(mean, fine, wide) again = DequantizeLinear(q, fine, wide)
y = QuantizeLinear(again, scale, wide)
-> QuantizeLinear y: it quantises a mean of 16 bits once more to 16 bits (what helps: ...

a := two y = QuantizeLinear(a, fine, wide)
-> QuantizeLinear y: it is of 2 images, and has 16 bits (what helps: a batch of 1 (--size))

a := flat w @ rows b = Gemm(a, w, huge5) y = QuantizeLinear(b, fine, wide)
-> QuantizeLinear y: its bias, with its zero points, is ...

a := x w @ i b = Conv(a, w) y = Slice(b, n_0, n_1, n_2)
-> Slice y: it takes a part of what is not quantised yet {quantise}

a := x y = podweave.ChannelShuffle(a)
-> podweave.ChannelShuffle y: it has no scale

a := x y = podweave.ChannelShuffle<scale = 1.0, sizes = [1, 2, 2, 4, 4]>(a)
-> podweave.ChannelShuffle y: its attributes and inputs do not belong together: ...

a := x c = Div(scale, scales) y = Add(a, c)
-> Add y: its constant [2] differs along another axis than channels

a := x w @ i b = Conv(a, w) y = Pad(b, n_0_0_1_1_0_0_1_1, coarse)
-> Pad y: it pads what is not quantised yet {quantise}

a := x3 y = MatMul(a, a)
-> MatMul y: it multiplies two computed tensors {attention}

a := x y = MaxPool(a)
-> MaxPool y: it has no kernel_shape

a := x y = Reshape(a, endless)
-> Reshape y: its attributes and inputs do not belong together:...

a := x y = MaxPool<kernel_shape = [2]>(a)
-> MaxPool y: its kernel_shape are [2] (what helps: 2 numbers)

a := rows5 w @ rows y = Gemm(a, w, column5)
-> Gemm y: its bias [5, 1] is not one number for each of 5 outputs

a := rows5 w @ rows b @ column5i y = Gemm(a, w, b)
-> Gemm y: its bias [5, 1] is not one number for each of 5 outputs

y = QuantizeLinear(f64, scale, zero)
-> input f64: it is float64 (what helps: float32, int8 or uint8, int16 or uint16)

y = QuantizeLinear(five_d, scale, zero)
-> input five_d: it has 5 dimensions (what helps: 1 to 4)

a := x b := two y = Concat<axis = 1>(a, b)
-> Concat y: it joins images of different sizes

a := x w @ i y = QLinearConv(a, scale, zero, i, fine, zero8, scale, zero)
-> QLinearConv y: its input a holds no integers

y = QLinearConv(b8, scales, zero, i, fine, zero8, scale, zero)
-> QLinearConv y: what is computed has 2 scales (what helps: one scale for each tensor)

y = com.microsoft.QLinearAveragePool<kernel_shape = [2, 2], channels_last = 1>(b8, scale, zero8, scale, zero8)
-> com.microsoft.QLinearAveragePool y: its channels are last (channels_last)

a := x12 s = Reshape(a, n_1_5_2_4_4) t = Transpose<perm = [0, 2, 1, 3, 4]>(s) y = Reshape(t, n_1_12_4_4)
-> podweave.ChannelShuffle y: [1, 12, 4, 4] as [1, 5, 2, 4, 4] cuts an axis of the image in two

a := x12 s = Reshape(a, n_1_3_4_4_4) q1 = QuantizeLinear(s, third, zero) q2 = DequantizeLinear(q1, third, zero) t = Transpose<perm
= [0, 2, 1, 3, 4]>(q2) y = Reshape(t, n_1_12_4_4)
-> podweave.ChannelShuffle y: it is quantised otherwise in the midst of a shuffle (what helps: one scale for all of it)

a := x w @ i4 b = Conv(a, w) s = Reshape(b, n_1_2_2_4_4) t = Transpose<perm = [0, 2, 1, 3, 4]>(s) y = Reshape(t, n_1_4_4_4)
-> podweave.ChannelShuffle y: it shuffles what is not quantised yet {quantise}
"""
