// Draws with an ONNX engine (`gpcnn-export --format onnx`) in C++: docs/engines.md as a program.
//
//     c++ -std=c++17 -O2 -I ONNXRUNTIME/include draw.cpp -L ONNXRUNTIME/lib -lonnxruntime -o draw
//     ./draw MODEL.onnx PICTURE [SEED [LABEL [POSITION]]]
//
// PICTURE becomes a PGM (grey) or PPM (colour) file. The same seed, label and position in the batch give the image that
// gpcnn-sample draws.
#include <onnxruntime_cxx_api.h>

#include <array>
#include <charconv>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <iostream>
#include <regex>
#include <stdexcept>
#include <string>
#include <vector>

struct Spec {
  int64_t channels, height, width, levels, conditioning_size;
  std::string conditioning;
  int64_t subpixels() const { return channels * height * width; }
};

using Words = std::array<uint64_t, 4>;

// High and low half of a 128-bit product.
static std::array<uint64_t, 2> product(uint64_t a, uint64_t b) {
  const uint64_t mask = 0xffffffffu, low = (a & mask) * (b & mask), middle = (a >> 32) * (b & mask) + (low >> 32);
  const uint64_t other = (a & mask) * (b >> 32) + (middle & mask);
  return {(a >> 32) * (b >> 32) + (middle >> 32) + (other >> 32), (other << 32) | (low & mask)};
}

// Philox-4x64-10 (Salmon et al. 2011).
static Words philox(uint64_t block, uint64_t seed, uint64_t image) {
  Words x = {block, 0, 0, 0};
  for (int round = 0; round < 10; round++) {
    const auto a = product(0xd2e7470ee14c6c93u, x[0]), b = product(0xca5a826395121157u, x[2]);
    x = {b[0] ^ x[1] ^ seed, b[1], a[0] ^ x[3] ^ image, a[1]};
    seed += 0x9e3779b97f4a7c15u;
    image += 0xbb67ae8584caa73bu;
  }
  return x;
}

// Uniforms [C, H, W] of one image of a seed.
static std::vector<float> noise(const Spec& spec, uint64_t seed, uint64_t position) {
  std::vector<float> out(spec.subpixels());
  Words words{};
  for (size_t i = 0; i < out.size(); i++) {
    if (i % 8 == 0) words = philox(i / 8 + 1, seed, position);  // NumPy counts blocks from 1
    const auto half = static_cast<uint32_t>(words[i % 8 / 2] >> (i % 2 ? 32 : 0));  // a word's lower half comes first
    out[i % spec.channels * spec.height * spec.width + i / spec.channels] = static_cast<float>(half >> 8) / 16777216.0f;
  }
  return out;
}

static Spec read_spec(const Ort::Session& session) {
  Ort::AllocatorWithDefaultOptions allocator;
  const auto found = session.GetModelMetadata().LookupCustomMetadataMapAllocated("gpcnn", allocator);
  if (!found) throw std::runtime_error("no engine of gpcnn-export");
  const std::string text = found.get();
  const auto field = [&](const std::string& name) {  // names of numbers and words appear once in the metadata
    std::smatch match;
    if (!std::regex_search(text, match, std::regex("\"" + name + "\"\\s*:\\s*\"?(\\w+)")))
      throw std::runtime_error("its metadata has no " + name);
    return match[1].str();
  };
  if (field("role") != "sampler") throw std::runtime_error("expected a sampler, found a " + field("role"));
  return {std::stoll(field("channels")), std::stoll(field("height")), std::stoll(field("width")),
          std::stoll(field("levels")), std::stoll(field("conditioning_size")), field("conditioning")};
}

// Levels [C, H, W] of one image: one call of the engine.
static std::vector<int32_t> draw(Ort::Session& session, const Spec& spec, std::vector<float> uniforms, int32_t label) {
  const auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
  const std::vector<int64_t> shape = {1, spec.channels, spec.height, spec.width}, one = {1};
  const size_t size = uniforms.size();
  std::vector<int32_t> known(size);
  std::vector<uint8_t> mask(size);
  float temperature = 1;
  const auto tensor = [&](auto* data, size_t count, const std::vector<int64_t>& dims) {
    return Ort::Value::CreateTensor(memory, data, count, dims.data(), dims.size());
  };
  std::vector<const char*> names = {"noise", "known", "mask", "temperature"};
  std::vector<Ort::Value> values;
  values.push_back(tensor(uniforms.data(), size, shape));
  values.push_back(tensor(known.data(), size, shape));
  values.push_back(tensor(reinterpret_cast<bool*>(mask.data()), size, shape));
  values.push_back(tensor(&temperature, 1, {}));
  if (spec.conditioning == "label") {
    names.push_back("label");
    values.push_back(tensor(&label, 1, one));
  }
  const char* const wanted[] = {"image"};
  auto results = session.Run(Ort::RunOptions{}, names.data(), values.data(), names.size(), wanted, 1);
  const auto* levels = results[0].GetTensorData<int32_t>();
  return {levels, levels + size};
}

static void write_picture(const std::string& path, const Spec& spec, const std::vector<int32_t>& image) {
  std::ofstream file(path, std::ios::binary);
  file << 'P' << (spec.channels == 1 ? 5 : 6) << '\n' << spec.width << ' ' << spec.height << "\n255\n";
  const int64_t pixels = spec.height * spec.width, top = spec.levels - 1;
  for (int64_t i = 0; i < spec.subpixels(); i++) {
    const int64_t value = image[i % spec.channels * pixels + i / spec.channels] * 255, whole = value / top, rest = value % top;
    file.put(static_cast<char>(whole + (2 * rest > top || (2 * rest == top && whole % 2))));  // halves to the even number
  }
  if (!file.flush()) throw std::runtime_error(path + " cannot be written");
}

int main(int count, char** words) try {
  if (count < 3 || count > 6) throw std::runtime_error("usage: draw MODEL.onnx PICTURE [SEED [LABEL [POSITION]]]");
  const auto number = [&](int at) -> uint64_t {
    if (count <= at) return 0;
    uint64_t value = 0;
    const char* end = words[at] + std::strlen(words[at]);
    if (const auto read = std::from_chars(words[at], end, value); read.ec != std::errc{} || read.ptr != end)
      throw std::runtime_error(std::string(words[at]) + ": expected a number from 0 to 2^64 - 1");
    return value;
  };
  Ort::Env environment(ORT_LOGGING_LEVEL_WARNING, "draw");
  Ort::Session session(environment, std::basic_string<ORTCHAR_T>(words[1], words[1] + std::string(words[1]).size()).c_str(),
                       Ort::SessionOptions{});
  const Spec spec = read_spec(session);
  if (spec.conditioning == "embedding") throw std::runtime_error("the model needs an embedding, which this example has not");
  const uint64_t label = number(4), labels = spec.conditioning == "label" ? spec.conditioning_size : 1;
  if (label >= labels) throw std::runtime_error("the model has no such label");
  write_picture(words[2], spec, draw(session, spec, noise(spec, number(3), number(5)), static_cast<int32_t>(label)));
} catch (const std::exception& error) {
  std::cerr << "draw: " << error.what() << '\n';
  return 1;
}
